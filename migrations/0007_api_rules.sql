-- What the users of an organisation may call of its workspaces besides the usual.

create table embedgate.api_rule (
  org embedgate.identifier not null references embedgate.organisation on delete cascade,
  id embedgate.identifier not null,
  -- Users as sessions name them, and by their e-mail addresses. With neither, the rule is for everybody.
  members text[] not null default '{}' check (
    array_position(members, null) is null and (members = '{}' or array_to_string(members, ' ') ~ '^[!-~]{1,255}( [!-~]{1,255})*$')),
  users text[] not null default '{}' check (embedgate.are_users(users)),
  -- Such as GET /api/2.0/sql/history/queries; * is one segment, {warehouse} an own warehouse, ** at the end whatever follows.
  allow text[] not null default '{}' check (
    array_position(allow, null) is null
    and (allow = '{}' or array_to_string(allow, ' ') ~ '^(GET|POST|PUT|PATCH|DELETE) /(api|sql)/[!-~]+( (GET|POST|PUT|PATCH|DELETE) /(api|sql)/[!-~]+)*$')),
  -- What may be done to the organisation's own warehouses.
  warehouses text[] not null default '{}' check (warehouses <@ array['start', 'stop', 'edit']),
  primary key (org, id)
);

create trigger api_rule_inserted after insert on embedgate.api_rule referencing new table as after
  for each statement execute function embedgate.touch_new();
create trigger api_rule_updated after update on embedgate.api_rule
  referencing old table as before new table as after
  for each statement execute function embedgate.touch_both();
create trigger api_rule_deleted after delete on embedgate.api_rule referencing old table as before
  for each statement execute function embedgate.touch_old();
create trigger api_rule_truncated after truncate on embedgate.api_rule
  for each statement execute function embedgate.notify_all();
