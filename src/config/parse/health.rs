//! `[upstreams.health]` and `[upstreams.circuit]`.

use crate::config::reader::{Item, Section};
use crate::config::{Circuit, Health, Prober};
use std::time::Duration;

/// The keys of `[upstreams.health]`.
pub(super) const HEALTH: &[&str] = &[
    "consecutive_failures",
    "failure_share",
    "failure_requests",
    "failure_window",
    "count_500",
    "ejection_time",
    "max_ejection_time",
    "panic_threshold",
    "max_probes",
    "prober",
];

/// The keys of `[upstreams.circuit]`.
pub(super) const CIRCUIT: &[&str] =
    &["max_requests", "max_retries", "max_requests_per_node", "max_connections_per_node", "max_connecting_per_node"];

/// More failures in a row than are counted would never take a node out.
const MOST_CONSECUTIVE: i128 = 10_000;
/// Times out are counted in milliseconds, and one without end helps nobody.
const LONGEST_EJECTION: Duration = Duration::from_secs(24 * 3600);

/// `has_fleet` says that instances hear of one another.
pub(super) fn health(section: &Section<'_>, has_fleet: bool) -> Health {
    let ejection_time = section.or("ejection_time", Duration::from_secs(10), ejection);
    let longest = |item: &Item<'_>| {
        let longest = ejection(item)?;
        if longest < ejection_time {
            item.wrong("is less than ejection_time; write no less");
        }
        Some(longest)
    };
    // A first ejection may be longer than the usual longest one.
    let usual = Duration::from_secs(300).max(ejection_time);
    Health {
        consecutive_failures: section.or("consecutive_failures", 5, |item| item.integer(0..=MOST_CONSECUTIVE)),
        failure_share: section.or("failure_share", 500, Item::thousandths),
        failure_requests: section.or("failure_requests", 20, |item| item.integer(1..=1_000_000)),
        failure_window: section.seconds("failure_window", 10),
        count_500: section.or("count_500", false, Item::boolean),
        max_ejection_time: section.or("max_ejection_time", usual, longest),
        ejection_time,
        panic_threshold: section.or("panic_threshold", 500, Item::thousandths),
        max_probes: section.or("max_probes", 64, |item| item.integer(1..=10_000)),
        prober: section.or("prober", Prober::Instance, |item| prober(item, has_fleet)),
    }
}

/// Instances that do not hear of one another would all probe, and whoever wrote otherwise would not know.
fn prober(item: &Item<'_>, has_fleet: bool) -> Option<Prober> {
    let prober = item.one_of(&[("instance", Prober::Instance), ("fleet", Prober::Fleet)])?;
    if prober == Prober::Fleet && !has_fleet {
        item.wrong(
            "\"fleet\" needs directory.source = \"postgres\", by which instances hear of one another; write \"instance\"",
        );
    }
    Some(prober)
}

fn ejection(item: &Item<'_>) -> Option<Duration> {
    let time = item.duration()?;
    if time > LONGEST_EJECTION {
        item.wrong("must be at most 24h");
        return None;
    }
    Some(time)
}

pub(super) fn circuit(section: &Section<'_>) -> Circuit {
    let most = |key, usual| section.or(key, usual, |item| item.integer(0..=10_000_000));
    Circuit {
        max_requests: most("max_requests", 0),
        max_retries: most("max_retries", 100),
        max_requests_per_node: most("max_requests_per_node", 0),
        max_connections_per_node: most("max_connections_per_node", 0),
        max_connecting_per_node: most("max_connecting_per_node", 4096),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Env, Prober};
    use std::path::Path;
    use std::time::Duration;

    fn parse(upstreams: &str) -> Result<Config, String> {
        let env = Env::from([("K".to_owned(), "00".to_owned())]);
        let text = format!("session.keys = [{{ id = 'k1', env = 'K' }}]\n[upstreams]\n{upstreams}");
        Config::parse(&text, Path::new("test"), &env).map_err(|error| error.to_string())
    }

    #[test]
    fn no_time_out_is_longer_than_the_longest() {
        let health = |text| parse(text).map(|config| config.upstreams.health);
        let long = health("health.ejection_time = '10m'").unwrap();
        assert_eq!((long.ejection_time, long.max_ejection_time), (Duration::from_secs(600), Duration::from_secs(600)));
        let wrong = health("health = { ejection_time = '10m', max_ejection_time = '5m' }").unwrap_err();
        assert!(wrong.contains("upstreams.health.max_ejection_time: is less than ejection_time"), "{wrong}");
        assert!(health("health.ejection_time = '25h'").unwrap_err().contains("at most 24h"));
        assert!(health("health.panic_threshold = 1.5").unwrap_err().contains("a share from 0 to 1"));
    }

    #[test]
    fn a_fleet_needs_its_database() {
        assert_eq!(parse("health.prober = 'instance'").unwrap().upstreams.health.prober, Prober::Instance);
        let wrong = parse("health.prober = 'fleet'").unwrap_err();
        assert!(wrong.contains("upstreams.health.prober: \"fleet\" needs directory.source"), "{wrong}");
        let postgres = "[directory]\nsource = 'postgres'\npostgres.url = 'postgres://localhost/x'";
        let fleet = parse(&format!("health.prober = 'fleet'\n{postgres}")).unwrap();
        assert_eq!(fleet.upstreams.health.prober, Prober::Fleet);
    }

    #[test]
    fn zero_is_no_limit() {
        let circuit = parse("circuit = { max_requests_per_node = 7, max_connecting_per_node = 0 }").unwrap();
        let circuit = circuit.upstreams.circuit;
        assert_eq!((circuit.max_requests_per_node, circuit.max_connecting_per_node, circuit.max_retries), (7, 0, 100));
        assert!(parse("circuit.max_requests = -1").unwrap_err().contains("upstreams.circuit.max_requests"));
        assert!(parse("circuit.most = 1").is_err());
    }
}
