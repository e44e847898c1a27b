-- The pages that may show the apps of an organisation in frames.

-- Whether they are origins as browsers write them, none of them missing.
create function embedgate.are_origins(origins text[]) returns boolean
  language sql immutable strict parallel safe
  set search_path = pg_catalog, pg_temp
  return (
    select coalesce(bool_and(coalesce(length(one) <= 300 and
        one ~ '^https?://([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*|\[[0-9a-f:.]{2,45}\])(:[1-9][0-9]{0,4})?$',
        false)), true)
    from unnest(origins) as one
  );

-- In place of embedding.frontend_origins, for everything of the organisation; null leaves it to that.
alter table embedgate.organisation add column frontend_origins text[]
  check (cardinality(frontend_origins) <= 32 and embedgate.are_origins(frontend_origins));
