//! Medians and ratios, side by side.

use super::Comparison;
use super::run::Run;
use crate::contestant::Contestant;
use crate::report::columns;
use crate::swarm::{Measured, Probed, Waits};
use indicatif::HumanCount;

/// Finds a phase in a run.
type Pick = fn(&Run) -> Option<&Measured>;

/// The yardstick.
const FLOOR: &str = "floor";

/// The comparison for people.
pub fn table(comparison: &Comparison, contestants: &[Contestant], quiet_rate: f64) -> String {
    let machine = &comparison.machine;
    let mut text = format!(
        "{}, on {}, Linux {}; load {:.1} before and {:.1} after. x: times the floor, in the same round; medians.\n\n",
        comparison.scenario, machine.processor, machine.kernel, machine.load_before, machine.load_after
    );
    let phases: [(&str, f64, Pick); 3] = [
        ("saturated", 0.0, |run| Some(&run.saturated)),
        ("quiet", quiet_rate, |run| run.quiet.as_ref()),
        ("half of saturation", comparison.half_rate, |run| run.half.as_ref()),
    ];
    for (name, rate, pick) in phases {
        if comparison.runs.iter().all(|run| pick(run).is_none()) {
            continue;
        }
        let mut rows = vec![headings(name, rate)];
        for contestant in contestants {
            let runs: Vec<(&Run, &Measured)> = comparison
                .runs
                .iter()
                .filter(|run| run.contestant == contestant.name())
                .filter_map(|run| Some((run, pick(run)?)))
                .collect();
            if !runs.is_empty() {
                rows.push(row(contestant.name(), &runs, comparison, pick));
            }
        }
        text += &columns(&rows);
        text.push('\n');
    }
    text += &others(comparison, contestants, quiet_rate);
    let mut rows = vec![vec!["memory".to_owned(), "RSS per connection".to_owned()]];
    for contestant in contestants {
        let of: Vec<f64> = comparison
            .runs
            .iter()
            .filter(|run| run.contestant == contestant.name())
            .map(|run| run.bytes_per_connection as f64)
            .collect();
        if !of.is_empty() {
            rows.push(vec![contestant.name().to_owned(), HumanCount(median(of) as u64).to_string()]);
        }
    }
    text += &columns(&rows);
    for why in &comparison.left_out {
        text += &format!("left out: {why}\n");
    }
    text
}

/// How long those wait who have nothing to do with the load: medians of the rounds' p99, and the largest of all.
fn others(comparison: &Comparison, contestants: &[Contestant], quiet_rate: f64) -> String {
    let phases = ["meanwhile, saturated".to_owned(), format!("meanwhile, {quiet_rate:.0}/s")];
    let columns_of = ["asked", "ping p99 µs", "max", "probe p99", "max", "own topic p99", "max"];
    let mut text = String::new();
    let mut undisturbed = true;
    for (phase, name) in phases.into_iter().enumerate() {
        let mut rows = vec![std::iter::once(name).chain(columns_of.map(str::to_owned)).collect()];
        for contestant in contestants {
            let of_it = comparison.runs.iter().filter(|run| run.contestant == contestant.name());
            let probed: Vec<Probed> = of_it.filter_map(|run| Some(run.others.as_ref()?[phase])).collect();
            if probed.is_empty() {
                continue;
            }
            undisturbed &= probed.iter().all(|one| one.undisturbed);
            let asked = probed.iter().map(|one| one.ping.count).sum::<usize>();
            let mut row = vec![contestant.name().to_owned(), HumanCount(asked as u64).to_string()];
            let kinds: [fn(&Probed) -> Waits; 3] = [|p| p.ping, |p| p.probe, |p| p.message];
            for kind in kinds {
                let p99 = median(probed.iter().map(|one| kind(one).p99 as f64).collect());
                let max = probed.iter().map(|one| kind(one).max).max().unwrap_or_default();
                row.extend([p99 as u64, max].map(|micros| HumanCount(micros).to_string()));
            }
            rows.push(row);
        }
        if rows.len() > 1 {
            text += &columns(&rows);
            text.push('\n');
        }
    }
    if !undisturbed {
        text += "The probers had no priority over the generator: part of what they waited is its own.\n\n";
    }
    text
}

fn headings(phase: &str, rate: f64) -> Vec<String> {
    let name = if rate > 0.0 { format!("{phase}, {rate:.0}/s") } else { phase.to_owned() };
    let rest = [
        "k/s",
        "x",
        "each read",
        "CPU µs",
        "x",
        "(range)",
        "p50 µs",
        "p99 µs",
        "x",
        "p99.9 µs",
        "max µs",
        "server %",
        "gen. %",
        "lost",
        "doubled",
    ];
    std::iter::once(name).chain(rest.map(str::to_owned)).collect()
}

fn row(name: &str, runs: &[(&Run, &Measured)], comparison: &Comparison, pick: Pick) -> Vec<String> {
    let of = |value: fn(&Measured) -> f64| median(runs.iter().map(|(_, m)| value(m)).collect());
    let ratios = |value: fn(&Measured) -> f64| -> Vec<f64> {
        let floor = |round| {
            comparison.runs.iter().find(|run| run.contestant == FLOOR && run.round == round).and_then(pick)
        };
        runs.iter().filter_map(|(run, m)| Some(value(m) / value(floor(run.round)?))).collect()
    };
    let ratio = |value: fn(&Measured) -> f64| {
        let all = ratios(value);
        if all.is_empty() { "-".to_owned() } else { format!("{:.2}", median(all)) }
    };
    let cpu = ratios(|m| m.server_us_per_delivery);
    let range = match (cpu.iter().copied().reduce(f64::min), cpu.iter().copied().reduce(f64::max)) {
        (Some(low), Some(high)) => format!("{low:.2}-{high:.2}"),
        _ => "-".to_owned(),
    };
    let micros = |value: fn(&Measured) -> f64| HumanCount(of(value) as u64).to_string();
    let sum = |value: fn(&Measured) -> u64| HumanCount(runs.iter().map(|(_, m)| value(m)).sum()).to_string();
    // At a rate, it waits awake for the next message: only a maximum can be the generator's.
    let bound = runs.iter().any(|(run, m)| std::ptr::eq(*m, &run.saturated) && m.is_generator_bound());
    vec![
        name.to_owned(),
        format!("{:.0}", of(|m| m.deliveries_per_second) / 1000.0),
        ratio(|m| m.deliveries_per_second),
        format!("{:.1}", of(|m| m.deliveries_per_read)),
        format!("{:.3}", of(|m| m.server_us_per_delivery)),
        ratio(|m| m.server_us_per_delivery),
        range,
        micros(|m| m.p50 as f64),
        micros(|m| m.p99 as f64),
        ratio(|m| m.p99 as f64),
        micros(|m| m.p999 as f64),
        micros(|m| m.max as f64),
        format!("{:.0}", of(|m| m.server_busy) * 100.0),
        format!("{:.0}{}", of(|m| m.generator_busy) * 100.0, if bound { " bottleneck" } else { "" }),
        sum(|m| m.lost),
        sum(|m| m.doubled),
    ]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_stands_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
