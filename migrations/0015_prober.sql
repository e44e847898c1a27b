-- One prober for the fleet: which instance it is, and the nodes that it finds dead.

-- The instance that probes for all others as long as its lease is. Not logged: after a crash of the server somebody takes it
-- again and tells what it knows.
create unlogged table embedgate.prober (
  single boolean primary key default true check (single),
  instance text not null check (instance ~ '^[0-9a-f]{32}$'),
  lease_until timestamptz not null,
  -- Of what is in embedgate.dead_node: another number after each word of a prober, none before the first.
  version bigint
);

-- A node that fails its probes. All others are well.
create unlogged table embedgate.dead_node (
  org text not null,
  node text not null,
  primary key (org, node)
);

-- Whether the caller is the one to probe for as long as the lease is, and the version of what is told.
create function embedgate.claim_probing(its_id text, lease interval, out mine boolean, out told bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into embedgate.prober as known (instance, lease_until)
  values (its_id, clock_timestamp() + lease)
  on conflict (single) do update
    set instance = excluded.instance, lease_until = excluded.lease_until
    where known.instance = excluded.instance or known.lease_until < clock_timestamp();
  mine := found;
  select p.version into told from embedgate.prober p;
end $$;

-- Says which nodes are dead: all of them, in arrays of one length. Gives the version since then; none when the caller is not
-- the prober any more, and then nothing is changed.
create function embedgate.tell_dead_nodes(its_id text, orgs text[], nodes text[]) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  told bigint;
begin
  update embedgate.prober set version = nextval('embedgate.version')
  where instance = its_id and lease_until > clock_timestamp()
  returning version into told;
  if found then
    delete from embedgate.dead_node old
    where not exists (
      select from unnest(orgs, nodes) as new (org, node) where (new.org, new.node) = (old.org, old.node));
    insert into embedgate.dead_node (org, node)
    select new.org, new.node from unnest(orgs, nodes) as new (org, node)
    on conflict do nothing;
  end if;
  return told;
end $$;

-- As before; besides, another may probe at once.
create or replace function embedgate.goodbye(its_id text) returns void
  language sql security definer set search_path = pg_catalog, pg_temp
begin atomic
  update embedgate.prober set lease_until = clock_timestamp() where instance = its_id;
  delete from embedgate.instance where id = its_id;
end;

revoke execute on function embedgate.claim_probing(text, interval), embedgate.tell_dead_nodes(text, text[], text[])
  from public;
