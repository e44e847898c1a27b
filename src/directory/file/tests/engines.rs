use super::*;

#[test]
fn engines_say_where_they_are_and_what_may_be_called() {
    assert_eq!(
        mistakes(
            "[[org.engine]]\nid = 'a'\nurl = 'https://evil.com/a/../b'\nallow = ['GET', 'GET a', 'GET /{warehouse}', 'GET /*']\n\
             [[org.engine]]\nid = 'a'\nurl = 'https://evil.com/x'\nprincipal = 'nobody'\nallow = []\n\
             [[org.engine]]\nid = 'b'\ndialect = 'presto'\nuser = 'x'\nidle_timeout = '0s'\nstatus = 'active'\n"
        ),
        [
            "8 org[acme].engine[a].url: the path \"/a/../b\" has empty, dot or encoded segments, or more than a path",
            "9 org[acme].engine[a].allow[#1]: \"GET\" does not begin with a method; write one such as \"GET /api/2.0/sql/history/queries\"",
            "9 org[acme].engine[a].allow[#2]: the path of \"GET a\" does not begin with a slash",
            "9 org[acme].engine[a].allow[#3]: \"GET /{warehouse}\" has the segment \"{warehouse}\"; write letters and digits, *, or ** as the last one",
            "11 org[acme].engine[a].id: another engine of the organisation has the id \"a\" already on line 7",
            "12 org[acme].engine[a].url: host evil.com is not in upstreams.allowed_domains; add it there, or write another URL",
            "13 org[acme].engine[a].principal: the organisation has no principal \"nobody\"; add it, or write one of its own",
            "14 org[acme].engine[a].allow: allows nothing; write allow = [\"POST /\"], or leave it out for everything below the url",
            "15 org[acme].engine[b].url: is missing; write url = \"https://...\", where the engine's paths begin",
            "17 org[acme].engine[b].dialect: \"presto\" is not known here; known here: generic, firebolt, trino",
            "18 org[acme].engine[b].user: is for engines with dialect = \"trino\"; remove it, or write the dialect",
            "19 org[acme].engine[b].idle_timeout: must be longer than 0; write a duration such as \"500ms\" or \"30s\"",
            "20 org[acme].engine[b].status: unknown key; known here: id, workspace, principal, url, dialect, user, allow, host, protocol, idle_timeout, balance, hash_on, affinity, slow_start, max_concurrent, adaptive, start, health, cluster",
        ]
    );
}
