-- Two roles with no more rights than they need. Run it as the owner of the schema, after `embedgate db migrate`, and
-- again whenever you like. Passwords, or whatever proves who somebody is, are for you to add.

do $$
begin
  if not exists (select from pg_roles where rolname = 'embedgate_serve') then
    create role embedgate_serve login;
  end if;
  if not exists (select from pg_roles where rolname = 'embedgate_admin') then
    create role embedgate_admin login;
  end if;
end $$;

-- The gateway: reads, and listens, which takes no right. Besides, it ends sessions, notes used tokens and tells of
-- itself, by functions that do just that.
grant usage on schema embedgate to embedgate_serve, embedgate_admin;
grant select on all tables in schema embedgate to embedgate_serve, embedgate_admin;
alter default privileges in schema embedgate grant select on tables to embedgate_serve, embedgate_admin;

-- Whoever keeps the directory, by SQL or by `embedgate db import`. Versions and notices are made by triggers.
grant insert, update, delete on
  embedgate.organisation, embedgate.workspace, embedgate.principal, embedgate.app, embedgate.warehouse,
  embedgate.cluster, embedgate.node, embedgate.engine, embedgate.api_rule, embedgate.end_user, embedgate.membership, embedgate.revocation
  to embedgate_admin;
grant execute on function embedgate.revoke(text, text, interval), embedgate.use_token(text, timestamptz),
  embedgate.claim_start(text, text, text, interval), embedgate.note_use(text, text, text, interval),
  embedgate.claim_stop(text, text, text, interval, interval), embedgate.release_start(text, text, text),
  embedgate.beat(text, text, text, boolean, interval, text[], text[], text[], text[], integer[], bigint[]),
  embedgate.goodbye(text), embedgate.claim_probing(text, interval), embedgate.tell_dead_nodes(text, text[], text[])
  to embedgate_serve, embedgate_admin;

-- States of clusters. The gateway needs this for its admin API alone: take it from embedgate_serve where nobody is to
-- change them by way of a gateway.
grant execute on function embedgate.set_cluster_state(text, text, text, text, text, boolean),
  embedgate.switch_cluster(text, text, text, text)
  to embedgate_serve, embedgate_admin;
