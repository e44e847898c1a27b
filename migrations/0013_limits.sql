-- What organisations and users may have under way, and what an upstream takes at once.

-- Whether it has nothing but whole numbers from 0 to 1000000 under the names of limits, and no burst without its rate.
create function embedgate.is_quota(quota jsonb) returns boolean
  language sql immutable strict parallel safe
  set search_path = pg_catalog, pg_temp
  return case when jsonb_typeof(quota) <> 'object' then false else
    coalesce((
      select bool_and(jsonb_typeof(one.value) = 'number' and one.value #>> '{}' ~ '^(1000000|[0-9]{1,6})$')
      from jsonb_each(quota) as one
    ), true)
    and quota - array['requests_per_second', 'burst', 'concurrent',
      'user_requests_per_second', 'user_burst', 'user_concurrent'] = '{}'::jsonb
    and (not quota ? 'burst' or quota ? 'requests_per_second')
    and (not quota ? 'user_burst' or quota ? 'user_requests_per_second')
  end;

-- In place of [quotas], for the whole fleet; what it does not say is as there, 0 is no limit.
alter table embedgate.organisation add column quota jsonb check (embedgate.is_quota(quota));

-- In place of upstreams.max_concurrent and upstreams.adaptive, for each instance.
alter table embedgate.app
  add column max_concurrent integer check (max_concurrent between 0 and 1000000),
  add column adaptive boolean;
alter table embedgate.warehouse
  add column max_concurrent integer check (max_concurrent between 0 and 1000000),
  add column adaptive boolean;
alter table embedgate.engine
  add column max_concurrent integer check (max_concurrent between 0 and 1000000),
  add column adaptive boolean;
