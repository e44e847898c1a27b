//! The figures of one organisation: twelve months of sales in three regions, the same whenever the demo is started in
//! the same month, and different from every other organisation's.

use super::time::Date;
use serde_json::{Value, json};

/// The regions, with their share of the whole in per cent.
const REGIONS: [(&str, u64); 3] = [("Europe", 46), ("North America", 34), ("Asia Pacific", 20)];
/// How well each month of the year sells, in per cent.
const SEASONS: [u64; MONTHS as usize] = [94, 90, 99, 104, 101, 93, 86, 91, 103, 107, 119, 126];
/// How many months there are.
const MONTHS: u64 = 12;

/// One row of the table `sales`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// `2026-03`.
    pub(super) month: String,
    /// One of the regions.
    pub(super) region: &'static str,
    /// Number of orders.
    pub(super) orders: u64,
    /// Revenue in whole euros.
    pub(super) revenue: u64,
}

/// The table of one organisation, by month and then by region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sales(Vec<Row>);

impl Sales {
    /// Makes up the figures of the organisation `id` for the twelve full months before `today`.
    pub(super) fn of(id: &str, today: Date) -> Self {
        let mut dice = Dice::new(id);
        let (size, growth) = (900 + dice.up_to(700), 3 + dice.up_to(4));
        let first = today.year * 12 + (today.month - 1) - MONTHS;
        let mut rows = Vec::new();
        for step in 0..MONTHS {
            let at = first + step;
            let month = format!("{:04}-{:02}", at / 12, at % 12 + 1);
            let season = SEASONS[(at % MONTHS) as usize];
            for (region, share) in REGIONS {
                let orders = size * share * (100 + growth * step) * season * (90 + dice.up_to(20)) / 100_000_000;
                let revenue = orders * (74 + dice.up_to(14));
                rows.push(Row { month: month.clone(), region, orders, revenue });
            }
        }
        Self(rows)
    }

    /// The rows.
    pub(super) fn rows(&self) -> &[Row] {
        &self.0
    }

    /// The series that the dashboard draws.
    pub(super) fn series(&self, organisation: &str) -> Value {
        let totals = |of: fn(&Row) -> u64| -> Vec<u64> {
            self.0.chunks(REGIONS.len()).map(|month| month.iter().map(of).sum()).collect()
        };
        let regions = REGIONS.map(|(region, _)| {
            let of: Vec<&Row> = self.0.iter().filter(|row| row.region == region).collect();
            json!({
                "name": region,
                "orders": of.iter().map(|row| row.orders).collect::<Vec<_>>(),
                "revenue": of.iter().map(|row| row.revenue).collect::<Vec<_>>(),
            })
        });
        json!({
            "organisation": organisation,
            "currency": "EUR",
            "months": self.0.iter().step_by(REGIONS.len()).map(|row| &row.month).collect::<Vec<_>>(),
            "orders": totals(|row| row.orders),
            "revenue": totals(|row| row.revenue),
            "regions": regions,
        })
    }
}

/// Repeatable numbers: xorshift64, seeded with the FNV-1a hash of a text.
struct Dice(u64);

impl Dice {
    fn new(seed: &str) -> Self {
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        // Xorshift never leaves zero, hence the bit.
        Self(seed.bytes().fold(0xcbf2_9ce4_8422_2325, fnv) | 1)
    }

    /// A number below `limit`.
    fn up_to(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_repeatable_plausible_and_each_organisations_own() {
        let march = Date { year: 2026, month: 3, day: 9 };
        let acme = Sales::of("acme", march);
        assert_eq!(acme, Sales::of("acme", march));
        assert_ne!(acme, Sales::of("globex", march));
        assert_eq!(acme.rows().len(), 36);
        assert_eq!((acme.rows()[0].month.as_str(), acme.rows()[35].month.as_str()), ("2025-03", "2026-02"));
        assert!(acme.rows().iter().all(|row| row.orders > 50 && row.revenue > row.orders));

        let series = acme.series("acme");
        assert_eq!(series["months"].as_array().map(Vec::len), Some(12));
        let first: u64 = acme.rows()[..3].iter().map(|row| row.revenue).sum();
        assert_eq!(series["revenue"][0], first);
        assert_eq!(series["regions"][2]["name"], "Asia Pacific");
    }
}
