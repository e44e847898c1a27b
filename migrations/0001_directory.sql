-- The directory: organisations and all that belongs to them. Names are those of the directory file.
-- A state that the gateway could not use must not be possible to store.

create domain embedgate.identifier as text
  check (value ~ '^[A-Za-z0-9_-]{1,63}$');

-- Scheme, host and port, in lower case, and nothing else. Which hosts are allowed is for the gateway's configuration.
create domain embedgate.base_url as text
  check (value ~ '^https?://([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*|\[[0-9a-f:.]{2,45}\])(:[1-9][0-9]{0,4})?$'
    and length(value) <= 300);

-- A secret sealed by `embedgate secret seal`. In clear text none can be stored.
create domain embedgate.sealed as text
  check (value ~ '^~s1\.[A-Za-z0-9_-]{1,16}\.[A-Za-z0-9_-]+$' and length(value) between 40 and 16384);

-- E-mail addresses in lower case, none of them missing.
create function embedgate.are_users(users text[]) returns boolean
  language sql immutable strict parallel safe
  set search_path = pg_catalog, pg_temp
  return (
    select coalesce(bool_and(coalesce(
        one = lower(one) and one ~ '^[^[:space:]@]+@[^[:space:]@]+$' and length(one) <= 254, false)), true)
    from unnest(users) as one
  );

-- One sequence for all: a version is never used twice, not even by an organisation that was deleted and made again.
create sequence embedgate.version as bigint;

create table embedgate.organisation (
  id embedgate.identifier primary key,
  name text not null check (name <> '' and length(name) <= 200),
  segment text not null default 'stable' check (segment in ('internal', 'preview', 'stable')),
  -- Set by a trigger at every change of the organisation or of anything that belongs to it.
  version bigint not null default 0
);

create table embedgate.workspace (
  org embedgate.identifier not null references embedgate.organisation on delete cascade,
  id embedgate.identifier not null,
  url embedgate.base_url not null,
  -- The first one is that of requests that name none.
  position integer not null default 0,
  primary key (org, id)
);

create table embedgate.principal (
  org embedgate.identifier not null,
  id embedgate.identifier not null,
  workspace embedgate.identifier not null,
  kind text not null,
  client_id text check (client_id ~ '^[!-9;-~]{1,255}$'),
  client_secret embedgate.sealed,
  token embedgate.sealed,
  -- Empty means everybody of the organisation who has none reserved.
  users text[] not null default '{}' check (embedgate.are_users(users)),
  primary key (org, id),
  foreign key (org, workspace) references embedgate.workspace on delete cascade,
  constraint principal_kind_has_its_columns check (
    case kind
      when 'databricks' then client_id is not null and client_secret is not null and token is null
      when 'bearer' then client_id is null and client_secret is null and token is not null
      when 'none' then client_id is null and client_secret is null and token is null
      else false
    end)
);

create index principal_workspace on embedgate.principal (org, workspace);

create unique index principal_one_for_everybody on embedgate.principal (org, workspace) where users = '{}';

create table embedgate.app (
  org embedgate.identifier not null,
  id embedgate.identifier not null,
  workspace embedgate.identifier not null,
  url embedgate.base_url not null,
  primary key (org, id),
  foreign key (org, workspace) references embedgate.workspace on delete cascade
);

create index app_workspace on embedgate.app (org, workspace);

-- A warehouse's address is its workspace's.
create table embedgate.warehouse (
  org embedgate.identifier not null,
  id embedgate.identifier not null,
  workspace embedgate.identifier not null,
  primary key (org, id),
  foreign key (org, workspace) references embedgate.workspace on delete cascade
);

create index warehouse_workspace on embedgate.warehouse (org, workspace);

-- A set of nodes of an app or a warehouse.
create table embedgate.cluster (
  org embedgate.identifier not null,
  kind text not null check (kind in ('app', 'warehouse')),
  upstream embedgate.identifier not null,
  id embedgate.identifier not null,
  state text not null check (state in ('stopped', 'starting', 'running', 'draining')),
  role text not null default 'primary' check (role in ('primary', 'shadow')),
  position integer not null default 0,
  -- What `upstream` refers to, for the foreign keys: the other one is null and refers to nothing.
  app text generated always as (case kind when 'app' then upstream end) stored,
  warehouse text generated always as (case kind when 'warehouse' then upstream end) stored,
  primary key (org, kind, upstream, id),
  foreign key (org, app) references embedgate.app on delete cascade,
  foreign key (org, warehouse) references embedgate.warehouse on delete cascade
);

create table embedgate.node (
  org embedgate.identifier not null,
  kind text not null,
  upstream embedgate.identifier not null,
  cluster embedgate.identifier not null,
  url embedgate.base_url not null,
  position integer not null default 0,
  primary key (org, kind, upstream, cluster, url),
  foreign key (org, kind, upstream, cluster) references embedgate.cluster on delete cascade
);

-- A cluster has at least one node when its transaction commits.
create function embedgate.check_cluster_has_nodes() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  about record;
begin
  if tg_table_name = 'cluster' then
    select new.org, new.kind, new.upstream, new.id into about;
  else
    select old.org, old.kind, old.upstream, old.cluster as id into about;
  end if;
  if exists (
      select from embedgate.cluster c
      where c.org = about.org and c.kind = about.kind and c.upstream = about.upstream and c.id = about.id)
    and not exists (
      select from embedgate.node n
      where n.org = about.org and n.kind = about.kind and n.upstream = about.upstream and n.cluster = about.id)
  then
    raise exception 'cluster "%" of % "%" of organisation "%" has no node', about.id, about.kind, about.upstream, about.org
      using errcode = 'check_violation', constraint = 'cluster_has_nodes';
  end if;
  return null;
end $$;

create constraint trigger cluster_has_nodes after insert or update on embedgate.cluster
  deferrable initially deferred for each row execute function embedgate.check_cluster_has_nodes();

create constraint trigger cluster_keeps_nodes after update or delete on embedgate.node
  deferrable initially deferred for each row execute function embedgate.check_cluster_has_nodes();
