-- What tells of changes in FireFly's tables. Put there by `embedgate db adopt-firefly`, which also makes the triggers,
-- and taken away by its `--remove`. Nothing here may make a statement of the front end fail.

-- One notice for each organisation that a statement concerns: '<organisation> 0', for FireFly counts no versions. For
-- users, 'ban:<user>' besides.
create or replace function embedgate.firefly_changed() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  kind constant text := tg_argv[0];
  rows jsonb[] := '{}';
  orgs text[] := '{}';
begin
  if tg_op in ('UPDATE', 'DELETE') then
    rows := rows || array(select to_jsonb(old_row) from before as old_row limit 501);
  end if;
  if tg_op in ('UPDATE', 'INSERT') then
    rows := rows || array(select to_jsonb(new_row) from after as new_row limit 501);
  end if;
  if tg_op = 'TRUNCATE' or kind = 'anything' or cardinality(rows) > 500 then
    perform pg_notify('embedgate_directory', '*');
    return null;
  end if;
  if kind = 'organisation' then
    orgs := array(select one ->> 'id' from unnest(rows) as one);
  elsif kind = 'owned' then
    orgs := array(select one ->> 'organizationId' from unnest(rows) as one);
  elsif kind = 'user' then
    perform pg_notify('embedgate_directory', 'ban:' || (one ->> 'id')) from unnest(rows) as one;
    orgs := array(select m."organizationId"::text from public.member m
      where m."userId"::text in (select one ->> 'id' from unnest(rows) as one));
  elsif kind = 'address' then
    orgs := array(select m."organizationId"::text from public.member m join public."user" u on u.id = m."userId"
      where lower(u.email) in (select lower(one ->> tg_argv[1]) from unnest(rows) as one));
  end if;
  perform pg_notify('embedgate_directory', org || ' 0') from (select distinct org from unnest(orgs) as org) as each_org;
  return null;
exception when others then
  -- The next look at the tables finds what nobody told.
  return null;
end $$;
