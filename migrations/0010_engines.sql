-- Engines: what is said to them and how, and what of them may be called.

-- As base_url, with a path behind it that has one reading and no slash at its end.
create domain embedgate.engine_url as text
  check (value ~ '^https?://([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*|\[[0-9a-f:.]{2,45}\])(:[1-9][0-9]{0,4})?(/[A-Za-z0-9._~:@=+,-]+)*$'
    and value !~ '/\.+(/|$)' and length(value) <= 1000);

alter table embedgate.engine
  alter column url type embedgate.engine_url using url::text,
  -- Who acts there in place of the principals of the workspace. Without it the engine goes, too: nobody takes its place.
  add column principal text,
  add foreign key (org, principal) references embedgate.principal on delete cascade,
  -- What clients and engine say to one another besides HTTP.
  add column dialect text not null default 'generic' check (dialect in ('generic', 'firebolt', 'trino')),
  -- The user that it is told.
  add column trino_user text check (trino_user is null or (dialect = 'trino' and trino_user ~ '^[!-~]{1,255}$')),
  -- The calls that may be made, such as POST /; null is everything below the url.
  add column allow text[] check (
    array_position(allow, null) is null and cardinality(allow) > 0
    and array_to_string(allow, ' ') ~ '^(GET|POST|PUT|PATCH|DELETE) /[!-~]*( (GET|POST|PUT|PATCH|DELETE) /[!-~]*)*$'),
  -- Whose Host it sees, as for apps; null is what suits the dialect: keep for trino, else rewrite.
  add column host text check (host in ('rewrite', 'keep')),
  add column protocol text not null default 'auto' check (protocol in ('auto', 'http1', 'http2')),
  -- In place of upstreams.first_byte_timeout and upstreams.idle_timeout.
  add column idle_timeout embedgate.duration check (idle_timeout::interval > interval '0');

create index engine_principal on embedgate.engine (org, principal);
