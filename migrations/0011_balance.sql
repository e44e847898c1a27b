-- How the requests of an upstream are spread over its clusters and nodes.

-- The part of a cluster, against that of the others; 0 is none of the new ones.
alter table embedgate.cluster
  add column weight integer not null default 100 check (weight between 0 and 10000);

do $$
declare
  one text;
begin
  foreach one in array array['app', 'warehouse', 'engine'] loop
    execute format($sql$
      alter table embedgate.%1$I
        -- How a node of a cluster is chosen.
        add column balance text not null default 'least-requests'
          check (balance in ('least-requests', 'round-robin', 'peak-ewma', 'hash')),
        -- What hash goes by: session, or header: with a name; null is session.
        add column hash_on text check (
          hash_on = 'session' or hash_on ~ '^header:[A-Za-z0-9!#$%%&''*+.^_`|~-]{1,64}$'
            and lower(hash_on) not in ('header:authorization', 'header:cookie')),
        -- Whether a session stays on the node that it came to.
        add column affinity boolean not null default false,
        -- In place of upstreams.slow_start; 0s is none.
        add column slow_start embedgate.duration,
        add constraint %2$I check (hash_on is null or balance = 'hash')
      $sql$, one, one || '_hash_on_is_for_hash');
  end loop;
end $$;
