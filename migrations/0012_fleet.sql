-- The fleet: which instances run, and what is under way on each of them. And the changes of a cluster's state.

-- An instance of the gateway that was heard of. Not logged: after a crash of the server every instance says it again.
create unlogged table embedgate.instance (
  id text primary key check (id ~ '^[0-9a-f]{32}$'),
  -- Where it serves, and what it is, for people.
  address text not null check (length(address) <= 255),
  program text not null check (length(program) <= 64),
  started_at timestamptz not null default clock_timestamp(),
  heartbeat_at timestamptz not null,
  -- From when on it counts as gone, unless it is heard of again.
  expires_at timestamptz not null,
  -- Whether it is about to end.
  leaving boolean not null
);

-- What an instance has under way on a cluster: a row where there is something, and for every cluster that is draining.
create unlogged table embedgate.in_flight (
  org text not null,
  kind text not null,
  upstream text not null,
  cluster text not null,
  instance text not null references embedgate.instance on delete cascade,
  count integer not null check (count >= 0),
  -- The version of the organisation by which the instance has decided every request that is not in `count`.
  seen bigint not null,
  primary key (org, kind, upstream, cluster, instance)
);

create index in_flight_instance on embedgate.in_flight (instance);

-- Says that an instance lives and what is under way on it: all of it, in arrays of one length. Forgets those that were
-- not heard of for long. Gives how many there are that are not about to end.
create function embedgate.beat(
  its_id text, its_address text, its_program text, is_leaving boolean, life interval,
  orgs text[], kinds text[], upstreams text[], clusters text[], counts integer[], versions bigint[])
  returns integer
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into embedgate.instance as known (id, address, program, heartbeat_at, expires_at, leaving)
  values (its_id, its_address, its_program, clock_timestamp(), clock_timestamp() + life, is_leaving)
  on conflict (id) do update
    set heartbeat_at = excluded.heartbeat_at, expires_at = excluded.expires_at, leaving = excluded.leaving;
  delete from embedgate.in_flight old
  where old.instance = its_id and not exists (
    select from unnest(orgs, kinds, upstreams, clusters) as new (org, kind, upstream, cluster)
    where (new.org, new.kind, new.upstream, new.cluster) = (old.org, old.kind, old.upstream, old.cluster));
  insert into embedgate.in_flight as known (org, kind, upstream, cluster, instance, count, seen)
  select new.org, new.kind, new.upstream, new.cluster, its_id, new.count, new.seen
    from unnest(orgs, kinds, upstreams, clusters, counts, versions)
      as new (org, kind, upstream, cluster, count, seen)
  on conflict (org, kind, upstream, cluster, instance) do update
    -- 0 means that it cannot say at the moment: what it has said stays true.
    set count = excluded.count, seen = case excluded.seen when 0 then known.seen else excluded.seen end
    where (known.count, known.seen) is distinct from (excluded.count, excluded.seen);
  -- Anybody cleans up; whoever finds another at it leaves it to him.
  delete from embedgate.instance
  where id in (
    select id from embedgate.instance where expires_at < clock_timestamp() - interval '1 minute'
    order by id for update skip locked);
  return (select count(*) from embedgate.instance where expires_at > clock_timestamp() and not leaving);
end $$;

-- Says that an instance has ended.
create function embedgate.goodbye(its_id text) returns void
  language sql security definer set search_path = pg_catalog, pg_temp
begin atomic
  delete from embedgate.instance where id = its_id;
end;

-- Finds a cluster for a change, and locks its upstream's. The organisation comes first, as the triggers would lock it
-- later: two changes at once do not wait for one another in a circle. Gives what there is not, if something.
create function embedgate.find_cluster(its_org text, its_kind text, its_upstream text, its_cluster text)
  returns text
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform from embedgate.organisation where id = its_org for update;
  if not found then
    return 'no organisation';
  end if;
  if not exists (
      select from embedgate.app where its_kind = 'app' and org = its_org and id = its_upstream
      union all
      select from embedgate.warehouse where its_kind = 'warehouse' and org = its_org and id = its_upstream
      union all
      select from embedgate.engine where its_kind = 'engine' and org = its_org and id = its_upstream) then
    return 'no upstream';
  end if;
  perform from embedgate.cluster
    where org = its_org and kind = its_kind and upstream = its_upstream and id = its_cluster;
  return case when found then null else 'no cluster' end;
end $$;

-- Sets the state of a cluster. The last one that runs goes on running unless it is forced. Gives what came of it, the
-- version of the organisation since then, and the state before.
create function embedgate.set_cluster_state(
  its_org text, its_kind text, its_upstream text, its_cluster text, new_state text, by_force boolean,
  out outcome text, out version bigint, out before text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  others integer;
begin
  outcome := embedgate.find_cluster(its_org, its_kind, its_upstream, its_cluster);
  if outcome is null then
    select state into before from embedgate.cluster
      where org = its_org and kind = its_kind and upstream = its_upstream and id = its_cluster;
    select count(*) into others from embedgate.cluster
      where org = its_org and kind = its_kind and upstream = its_upstream and id <> its_cluster
        and state = 'running' and role = 'primary';
    if before = new_state then
      outcome := 'unchanged';
    elsif before = 'running' and others = 0 and not by_force and exists (
        select from embedgate.cluster
        where org = its_org and kind = its_kind and upstream = its_upstream and id = its_cluster
          and role = 'primary') then
      outcome := 'last';
    else
      update embedgate.cluster set state = new_state
        where org = its_org and kind = its_kind and upstream = its_upstream and id = its_cluster;
      outcome := 'changed';
    end if;
  end if;
  select o.version into version from embedgate.organisation o where o.id = its_org;
end $$;

-- Makes a cluster run and all others that run drain, at one moment. Gives the same.
create function embedgate.switch_cluster(
  its_org text, its_kind text, its_upstream text, its_cluster text,
  out outcome text, out version bigint, out before text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  outcome := embedgate.find_cluster(its_org, its_kind, its_upstream, its_cluster);
  if outcome is null then
    select state, case role when 'shadow' then 'shadow' end into before, outcome from embedgate.cluster
      where org = its_org and kind = its_kind and upstream = its_upstream and id = its_cluster;
  end if;
  if outcome is null then
    update embedgate.cluster
      set state = case id::text when its_cluster then 'running' else 'draining' end
      where org = its_org and kind = its_kind and upstream = its_upstream and role = 'primary'
        and (id = its_cluster and state <> 'running' or id <> its_cluster and state = 'running');
    outcome := case when found then 'changed' else 'unchanged' end;
  end if;
  select o.version into version from embedgate.organisation o where o.id = its_org;
end $$;

revoke execute on function
  embedgate.beat(text, text, text, boolean, interval, text[], text[], text[], text[], integer[], bigint[]),
  embedgate.goodbye(text), embedgate.find_cluster(text, text, text, text),
  embedgate.set_cluster_state(text, text, text, text, text, boolean),
  embedgate.switch_cluster(text, text, text, text) from public;
