-- Every change raises the version of its organisation, and says so on the channel embedgate_directory with the payload
-- '<organisation> <version>', once per organisation and statement. '*' alone means: read everything again.
--
-- The functions run with their owner's rights, so that whoever may write an app need not be allowed to write versions.

-- A direct write of an organisation gets a new version too, whatever the statement says.
create function embedgate.set_version() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  new.version := nextval('embedgate.version');
  return new;
end $$;

create trigger organisation_version before insert or update on embedgate.organisation
  for each row execute function embedgate.set_version();

-- Tells of the organisations in the transition table. Very many at once are told of as one.
create function embedgate.notify_organisations() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if (select count(*) from (select from changed limit 501) as sample) > 500 then
    perform pg_notify('embedgate_directory', '*');
  elsif tg_op = 'DELETE' then
    -- An organisation that is gone has a version of its own going.
    perform pg_notify('embedgate_directory', id || ' ' || nextval('embedgate.version')) from changed;
  else
    perform pg_notify('embedgate_directory', id || ' ' || version) from changed;
  end if;
  return null;
end $$;

create trigger organisation_inserted after insert on embedgate.organisation
  referencing new table as changed for each statement execute function embedgate.notify_organisations();
create trigger organisation_updated after update on embedgate.organisation
  referencing new table as changed for each statement execute function embedgate.notify_organisations();
create trigger organisation_deleted after delete on embedgate.organisation
  referencing old table as changed for each statement execute function embedgate.notify_organisations();

-- An id is what sessions name: another id is another organisation, made anew.
create function embedgate.refuse_new_id() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the id of an organisation does not change' using errcode = 'check_violation';
end $$;

create trigger organisation_id before update on embedgate.organisation
  for each row when (old.id is distinct from new.id) execute function embedgate.refuse_new_id();

-- Raises the versions of the organisations that rows of a statement belong to. They are locked in one order, so that
-- statements over several organisations do not wait for one another in a circle.
create function embedgate.touch(orgs text[]) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform from embedgate.organisation where id = any (orgs) order by id for update;
  update embedgate.organisation set version = version where id = any (orgs);
end $$;

create function embedgate.touch_new() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform embedgate.touch(array(select distinct org::text from after));
  return null;
end $$;

create function embedgate.touch_old() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform embedgate.touch(array(select distinct org::text from before));
  return null;
end $$;

create function embedgate.touch_both() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform embedgate.touch(array(select org::text from before union select org::text from after));
  return null;
end $$;

do $$
declare
  one text;
begin
  foreach one in array array['workspace', 'principal', 'app', 'warehouse', 'cluster', 'node'] loop
    execute format('create trigger %1$s_inserted after insert on embedgate.%1$I referencing new table as after
      for each statement execute function embedgate.touch_new()', one);
    execute format('create trigger %1$s_updated after update on embedgate.%1$I
      referencing old table as before new table as after
      for each statement execute function embedgate.touch_both()', one);
    execute format('create trigger %1$s_deleted after delete on embedgate.%1$I referencing old table as before
      for each statement execute function embedgate.touch_old()', one);
  end loop;
end $$;

-- Nobody is reserved by two principals of a workspace. This runs after the versions were raised (triggers go by name):
-- by then the organisation is locked, and what others committed is seen.
create function embedgate.check_users() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  twice record;
begin
  select p.org, p.workspace, u.one as address into twice
    from embedgate.principal p cross join lateral unnest(p.users) as u (one)
    where p.org in (select org from after)
    group by p.org, p.workspace, u.one having count(*) > 1
    limit 1;
  if found then
    raise exception '% is reserved by two principals of workspace "%" of organisation "%"',
        twice.address, twice.workspace, twice.org
      using errcode = 'unique_violation', constraint = 'principal_users_once';
  end if;
  return null;
end $$;

create trigger principal_users_inserted after insert on embedgate.principal referencing new table as after
  for each statement execute function embedgate.check_users();
create trigger principal_users_updated after update on embedgate.principal referencing new table as after
  for each statement execute function embedgate.check_users();

-- TRUNCATE has no rows to tell of.
create function embedgate.notify_all() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_notify('embedgate_directory', '*');
  return null;
end $$;

do $$
declare
  one text;
begin
  foreach one in array array['organisation', 'workspace', 'principal', 'app', 'warehouse', 'cluster', 'node'] loop
    execute format('create trigger %1$s_truncated after truncate on embedgate.%1$I
      for each statement execute function embedgate.notify_all()', one);
  end loop;
end $$;

-- Only triggers call these.
revoke execute on function embedgate.touch(text[]) from public;
