-- How the nodes of apps, warehouses and engines are probed.

-- Whether this says how nodes are probed, by the names of the directory file.
create function embedgate.is_probe(probe jsonb) returns boolean
  language sql immutable strict parallel safe
  set search_path = pg_catalog, pg_temp
  return case when jsonb_typeof(probe) <> 'object' then false else
    case probe ->> 'kind'
      when 'http' then coalesce(probe ->> 'path' ~ '^/[!-~]*$' and length(probe ->> 'path') <= 1000, false)
        and coalesce(probe ->> 'expect' ~ '^[1-5][0-9]{2}(-[1-5][0-9]{2})?(,[1-5][0-9]{2}(-[1-5][0-9]{2})?){0,15}$', true)
      when 'tcp' then not probe ?| array['path', 'expect']
      else false
    end
    and coalesce(embedgate.is_time(probe ->> 'interval'), true)
    and coalesce(embedgate.is_time(probe ->> 'timeout'), true)
    and coalesce(probe ->> 'healthy' ~ '^([1-9][0-9]?|100)$', true)
    and coalesce(probe ->> 'unhealthy' ~ '^([1-9][0-9]?|100)$', true)
    and probe - array['kind', 'path', 'expect', 'interval', 'timeout', 'healthy', 'unhealthy'] = '{}'::jsonb
  end;

alter table embedgate.app add column health jsonb check (embedgate.is_probe(health));
alter table embedgate.warehouse add column health jsonb check (embedgate.is_probe(health));
alter table embedgate.engine add column health jsonb check (embedgate.is_probe(health));
