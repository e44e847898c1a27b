-- How apps and warehouses are started, and who of the fleet does it.

-- A principal that starts and stops things, and acts for nobody.
alter table embedgate.principal
  add column control boolean not null default false,
  add constraint principal_control_is_for_nobody check (not control or users = '{}');
drop index embedgate.principal_one_for_everybody;
create unique index principal_one_for_everybody on embedgate.principal (org, workspace)
  where users = '{}' and not control;

-- Whether a text is a sum of whole numbers with units, as the domain has it, and more than nothing.
create function embedgate.is_time(value text) returns boolean
  language sql immutable strict parallel safe
  set search_path = pg_catalog, pg_temp
  return case
    when value ~ '^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$'
    then value::interval > interval '0' and value::interval <= interval '3650 days'
    else false
  end;

-- Whether this says how something is started, by the names of the directory file.
create function embedgate.is_start(start jsonb) returns boolean
  language sql immutable strict parallel safe
  set search_path = pg_catalog, pg_temp
  return case when jsonb_typeof(start) <> 'object' then false else
    coalesce((select bool_and(jsonb_typeof(one.value) = 'string') from jsonb_each(start) as one), false)
    and case start ->> 'by'
      when 'databricks-app' then start ? 'name'
      when 'databricks-warehouse' then not start ? 'name'
      when 'firebolt' then start ? 'name' and start ? 'url'
      when 'webhook' then start ? 'url' and not start ? 'name'
      else false
    end
    and start - array['by', 'name', 'url', 'principal', 'idle_stop'] = '{}'::jsonb
    and coalesce(embedgate.is_time(start ->> 'idle_stop'), true)
  end;

alter table embedgate.app add column start jsonb check (embedgate.is_start(start));
alter table embedgate.warehouse add column start jsonb check (embedgate.is_start(start));
alter table embedgate.engine add column start jsonb check (embedgate.is_start(start));

-- Who starts or stops what at the moment, and when it was last used by anybody.
create table embedgate.start_lease (
  org embedgate.identifier not null references embedgate.organisation on delete cascade,
  kind text not null check (kind in ('app', 'warehouse', 'engine')),
  upstream embedgate.identifier not null,
  lease_until timestamptz,
  last_used timestamptz,
  primary key (org, kind, upstream)
);

-- Whether the caller is the one to start it for as long as the lease is.
create function embedgate.claim_start(its_org text, its_kind text, its_upstream text, lease interval) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into embedgate.start_lease as known (org, kind, upstream, lease_until, last_used)
  values (its_org, its_kind, its_upstream, clock_timestamp() + lease, clock_timestamp())
  on conflict (org, kind, upstream) do update
    set lease_until = excluded.lease_until, last_used = excluded.last_used
    where known.lease_until is null or known.lease_until < clock_timestamp();
  return found;
end $$;

-- Lets others start or stop it before the lease ends.
create function embedgate.release_start(its_org text, its_kind text, its_upstream text) returns void
  language sql security definer set search_path = pg_catalog, pg_temp
begin atomic
  update embedgate.start_lease set lease_until = null
  where org = its_org and kind = its_kind and upstream = its_upstream;
end;

-- Notes that it was used so long ago.
create function embedgate.note_use(its_org text, its_kind text, its_upstream text, ago interval) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into embedgate.start_lease as known (org, kind, upstream, last_used)
  values (its_org, its_kind, its_upstream, clock_timestamp() - ago)
  on conflict (org, kind, upstream) do update
    set last_used = greatest(known.last_used, excluded.last_used);
end $$;

-- Whether nobody has used it for so long and the caller is the one to stop it.
create function embedgate.claim_stop(its_org text, its_kind text, its_upstream text, idle interval, lease interval)
  returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- The others see that it is down only with their next look: until then it counts as used.
  update embedgate.start_lease set lease_until = clock_timestamp() + lease, last_used = clock_timestamp()
  where org = its_org and kind = its_kind and upstream = its_upstream
    and (last_used is null or last_used <= clock_timestamp() - idle)
    and (lease_until is null or lease_until < clock_timestamp());
  return found;
end $$;

revoke execute on function
  embedgate.claim_start(text, text, text, interval), embedgate.note_use(text, text, text, interval),
  embedgate.claim_stop(text, text, text, interval, interval), embedgate.release_start(text, text, text) from public;
