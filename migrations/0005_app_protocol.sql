-- Which HTTP an app is spoken to in: what it chooses in the TLS handshake (auto), HTTP/1.1, or HTTP/2.
alter table embedgate.app
  add column protocol text not null default 'auto' check (protocol in ('auto', 'http1', 'http2'));
