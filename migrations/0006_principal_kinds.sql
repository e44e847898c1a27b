-- More ways in which service principals prove themselves. What is no secret stands in `settings`, by the names of the
-- directory file; secrets have columns of their own, and in clear text none can be stored.

-- A table of texts, such as header fields.
create function embedgate.are_pairs(pairs jsonb) returns boolean
  language sql immutable strict parallel safe
  set search_path = pg_catalog, pg_temp
  return case when jsonb_typeof(pairs) <> 'object' then false else (
    select count(*) <= 16 and coalesce(bool_and(
        jsonb_typeof(pair.value) = 'string' and length(pair.value #>> '{}') between 1 and 8192), true)
    from jsonb_each(pairs) as pair
  ) end;

-- Whether the value of a setting has its form. What depends on the gateway's configuration the gateway checks.
create function embedgate.is_setting(key text, value jsonb) returns boolean
  language sql immutable strict parallel safe
  set search_path = pg_catalog, pg_temp
  return case
    -- These have columns of their own; secrets above all.
    when key in ('kind', 'client_id', 'client_secret', 'token', 'password', 'value', 'private_key', 'secret_access_key',
      'session_token', 'client_key') then false
    when key in ('headers', 'params') then embedgate.are_pairs(value)
    when jsonb_typeof(value) <> 'string' then false
    when key = 'client_cert' then length(value #>> '{}') <= 32768 and (value #>> '{}') ~ '-----BEGIN CERTIFICATE-----'
    when length(value #>> '{}') not between 1 and 1024 then false
    when key = 'token_url' then (value #>> '{}') ~ '^https?://[^[:space:]/@?#]+(/[^[:space:]@#]*)?$'
    when key in ('accounts_url', 'authority') then (value #>> '{}') ~ '^https?://[^[:space:]/@?#]+$'
    when key = 'account_id' then (value #>> '{}') ~ '^[A-Za-z0-9-]{1,128}$'
    when key = 'tenant' then (value #>> '{}') ~ '^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$'
    when key = 'auth' then (value #>> '{}') in ('basic', 'body')
    when key = 'algorithm' then (value #>> '{}') in ('RS256', 'ES256')
    when key = 'payload' then (value #>> '{}') in ('signed', 'unsigned')
    when key = 'lifetime' then
      (value #>> '{}') ~ '^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$'
      and (value #>> '{}')::interval between interval '60s' and interval '24h'
    when key in ('region', 'service', 'access_key_id') then (value #>> '{}') ~ '^[A-Za-z0-9._-]{1,128}$'
    when key = 'user' then (value #>> '{}') !~ '[:[:cntrl:]]'
    else (value #>> '{}') !~ '[[:cntrl:]]'
  end;

-- Whether a principal of a kind has what the kind needs, and nothing that it does not have. `secrets` are the names of
-- the columns that hold one.
create function embedgate.fits_kind(kind text, client_id text, settings jsonb, secrets text[]) returns boolean
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
  return case when jsonb_typeof(settings) <> 'object' then false else coalesce((
    select own.needs <@ given.parts
      and given.parts <@ (own.needs || own.may || array['headers', 'client_cert', 'client_key'])
      and ('client_cert' = any (given.parts)) = ('client_key' = any (given.parts))
      and ('account_id' = any (given.parts) or not 'accounts_url' = any (given.parts))
      and (own.kind <> 'databricks' or position(':' in fits_kind.client_id) = 0)
      and (select coalesce(bool_and(embedgate.is_setting(one.key, one.value)), true)
           from jsonb_each(fits_kind.settings) as one)
    from (values
        ('databricks', array['client_id', 'client_secret'], array['account_id', 'accounts_url']),
        ('oauth2', array['token_url', 'client_id', 'client_secret'], array['auth', 'scope', 'params']),
        ('entra', array['tenant', 'client_id', 'client_secret', 'scope'], array['authority']),
        ('jwt-bearer', array['token_url', 'private_key', 'issuer'],
          array['algorithm', 'key_id', 'subject', 'audience', 'scope']),
        ('self-signed-jwt', array['private_key', 'issuer'],
          array['algorithm', 'key_id', 'subject', 'audience', 'scope', 'lifetime']),
        ('token-exchange', array['subject'], array['token_url', 'client_id', 'issuer', 'audience', 'scope', 'params']),
        ('basic', array['user', 'password'], array[]::text[]),
        ('bearer', array['token'], array[]::text[]),
        ('header', array['name', 'value'], array[]::text[]),
        ('sigv4', array['access_key_id', 'secret_access_key', 'region', 'service'], array['session_token', 'payload']),
        ('mtls', array['client_cert', 'client_key'], array[]::text[]),
        ('none', array[]::text[], array[]::text[])
      ) as own (kind, needs, may)
      cross join lateral (
        select array(select jsonb_object_keys(fits_kind.settings)) || fits_kind.secrets
          || case when fits_kind.client_id is null then array[]::text[] else array['client_id'] end as parts
      ) as given
    where own.kind = fits_kind.kind
  ), false) end;

alter table embedgate.principal
  add column settings jsonb not null default '{}' check (length(settings::text) <= 65536),
  add column password embedgate.sealed,
  add column value embedgate.sealed,
  add column private_key embedgate.sealed,
  add column secret_access_key embedgate.sealed,
  add column session_token embedgate.sealed,
  add column client_key embedgate.sealed,
  -- Some issuers give out ids with a colon.
  drop constraint principal_client_id_check,
  add constraint principal_client_id_check check (client_id ~ '^[!-~]{1,255}$'),
  drop constraint principal_kind_has_its_columns,
  add constraint principal_kind_has_its_parts check (
    embedgate.fits_kind(kind, client_id, settings, array_remove(array[
      case when client_secret is not null then 'client_secret' end,
      case when token is not null then 'token' end,
      case when password is not null then 'password' end,
      case when value is not null then 'value' end,
      case when private_key is not null then 'private_key' end,
      case when secret_access_key is not null then 'secret_access_key' end,
      case when session_token is not null then 'session_token' end,
      case when client_key is not null then 'client_key' end], null)));
