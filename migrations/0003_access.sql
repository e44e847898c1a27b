-- Who may come in: users and memberships, and what takes access away again. Engines, and what is known of apps.

-- A user as the front end names it: the `sub` of its tokens.
create domain embedgate.user_id as text
  check (value ~ '^[!-~]{1,255}$');

create table embedgate.end_user (
  id embedgate.user_id primary key,
  -- For people; the address that counts is the one in the session.
  email text check (email is null or (email = lower(email) and email ~ '^[!-~]+@[!-~]+$' and length(email) <= 254)),
  -- May do nothing, in any organisation.
  banned boolean not null default false
);

create index end_user_banned on embedgate.end_user (id) where banned;

-- With it, an organisation admits the users of `membership` alone; without, every user the front end sends.
alter table embedgate.organisation add column members_only boolean not null default false;

create table embedgate.membership (
  org embedgate.identifier not null references embedgate.organisation on delete cascade,
  end_user embedgate.user_id not null references embedgate.end_user on delete cascade,
  primary key (org, end_user)
);

create index membership_end_user on embedgate.membership (end_user);

-- Sessions that began at this moment or before are over.
create table embedgate.revocation (
  kind text not null check (kind in ('organisation', 'user', 'session')),
  -- The organisation, the user, or the session in 32 hexadecimal digits.
  id text not null,
  not_before timestamptz not null default now(),
  -- When no session that it ends can be left; the row may go then.
  forget_after timestamptz not null,
  primary key (kind, id),
  constraint revocation_names_its_kind check (
    case kind
      when 'organisation' then id ~ '^[A-Za-z0-9_-]{1,63}$'
      when 'user' then id ~ '^[!-~]{1,255}$'
      when 'session' then id ~ '^[0-9a-f]{32}$'
      else false
    end),
  check (forget_after >= not_before)
);

create index revocation_forget_after on embedgate.revocation (forget_after);

-- An app that is known not to work gets no new sessions.
alter table embedgate.app add column status text not null default 'active' check (status in ('active', 'failed'));

-- Firebolt-like engines: SQL that is served at an address of its own.
create table embedgate.engine (
  org embedgate.identifier not null,
  id embedgate.identifier not null,
  workspace embedgate.identifier not null,
  url embedgate.base_url not null,
  primary key (org, id),
  foreign key (org, workspace) references embedgate.workspace on delete cascade
);

create index engine_workspace on embedgate.engine (org, workspace);

alter table embedgate.cluster
  drop constraint cluster_kind_check,
  add constraint cluster_kind_check check (kind in ('app', 'warehouse', 'engine')),
  add column engine text generated always as (case kind when 'engine' then upstream end) stored,
  add foreign key (org, engine) references embedgate.engine on delete cascade;

-- Ends sessions from now on, and forgets what has been over for long. A revocation is never taken back by an earlier one.
create function embedgate.revoke(kind text, id text, keep interval) returns void
  language sql security definer set search_path = pg_catalog, pg_temp
as $$
  insert into embedgate.revocation as known (kind, id, not_before, forget_after) values (kind, id, now(), now() + keep)
    on conflict (kind, id) do update
    set not_before = excluded.not_before, forget_after = greatest(known.forget_after, excluded.forget_after);
  delete from embedgate.revocation where forget_after < now() - interval '1 day';
$$;

revoke execute on function embedgate.revoke(text, text, interval) from public;

-- Engines and memberships belong to organisations as everything else does.
do $$
declare
  one text;
begin
  foreach one in array array['engine', 'membership'] loop
    execute format('create trigger %1$s_inserted after insert on embedgate.%1$I referencing new table as after
      for each statement execute function embedgate.touch_new()', one);
    execute format('create trigger %1$s_updated after update on embedgate.%1$I
      referencing old table as before new table as after
      for each statement execute function embedgate.touch_both()', one);
    execute format('create trigger %1$s_deleted after delete on embedgate.%1$I referencing old table as before
      for each statement execute function embedgate.touch_old()', one);
  end loop;
end $$;

-- Revocations and bans are told of one by one, as '<kind>:<id>', where the kind is organisation, user, session or ban.
create function embedgate.notify_revocations() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if (select count(*) from (select from changed limit 501) as sample) > 500 then
    perform pg_notify('embedgate_directory', '*');
  else
    perform pg_notify('embedgate_directory', kind || ':' || id) from changed;
  end if;
  return null;
end $$;

create trigger revocation_inserted after insert on embedgate.revocation
  referencing new table as changed for each statement execute function embedgate.notify_revocations();
create trigger revocation_updated after update on embedgate.revocation
  referencing new table as changed for each statement execute function embedgate.notify_revocations();

-- What was forgotten in time needs no word; what was taken back does.
create function embedgate.notify_taken_back() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_notify('embedgate_directory', '*') where exists (select from changed where forget_after > now());
  return null;
end $$;

create trigger revocation_deleted after delete on embedgate.revocation
  referencing old table as changed for each statement execute function embedgate.notify_taken_back();

create function embedgate.notify_ban() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' then
    perform pg_notify('embedgate_directory', 'ban:' || old.id);
  else
    perform pg_notify('embedgate_directory', 'ban:' || new.id);
  end if;
  return null;
end $$;

create trigger end_user_inserted after insert on embedgate.end_user
  for each row when (new.banned) execute function embedgate.notify_ban();
create trigger end_user_updated after update on embedgate.end_user
  for each row when (old.banned is distinct from new.banned) execute function embedgate.notify_ban();
create trigger end_user_deleted after delete on embedgate.end_user
  for each row when (old.banned) execute function embedgate.notify_ban();

-- The id of a user stands in sessions as that of an organisation does.
create or replace function embedgate.refuse_new_id() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the id of "%" does not change', tg_table_name using errcode = 'check_violation';
end $$;

create trigger end_user_id before update on embedgate.end_user
  for each row when (old.id is distinct from new.id) execute function embedgate.refuse_new_id();

do $$
declare
  one text;
begin
  foreach one in array array['engine', 'membership', 'revocation', 'end_user'] loop
    execute format('create trigger %1$s_truncated after truncate on embedgate.%1$I
      for each statement execute function embedgate.notify_all()', one);
  end loop;
end $$;

-- Ids of tokens that may be used once, until they end.
create table embedgate.used_token (
  id text primary key check (length(id) between 1 and 64),
  expires timestamptz not null
);

create index used_token_expires on embedgate.used_token (expires);

-- Notes that a token is used; false when it was before.
create function embedgate.use_token(token text, until timestamptz) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from embedgate.used_token where expires < now() - interval '1 minute';
  insert into embedgate.used_token (id, expires) values (token, until) on conflict do nothing;
  return found;
end $$;

revoke execute on function embedgate.use_token(text, timestamptz) from public;
