-- How the requests of an app are treated.

-- A sum of whole numbers with units, longest unit first, as in the configuration: 500ms, 30s, 1h30m.
create domain embedgate.duration as text
  check (value ~ '^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$' and value::interval <= interval '3650 days');

alter table embedgate.app
  -- Whose Host the app sees: its own (rewrite), or the one that browsers ask for (keep).
  add column host text not null default 'rewrite' check (host in ('rewrite', 'keep')),
  -- Whether /app-proxy/{app} is cut off before the app sees the path.
  add column strip_prefix boolean not null default true,
  -- Whether its pages get a <base> there.
  add column base_tag boolean not null default false,
  -- In place of upstreams.ping_interval; 0s for never.
  add column ping_interval embedgate.duration,
  -- In place of upstreams.idle_timeout.
  add column idle_timeout embedgate.duration check (idle_timeout::interval > interval '0');
