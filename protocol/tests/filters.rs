//! The proof that `Filter` means what it says: by brute force where everything can be enumerated, by independent oracles
//! where it cannot.
//!
//! Authorization stands on `covers` and `overlaps`, and both are easy to get almost right.

use anabranch_protocol::filter::Filter;
use anabranch_protocol::limits;
use proptest::prelude::*;

/// Sequences of one to `depth` levels, joined. The first level comes from `first`, the others from `rest`.
fn names(first: &[&str], rest: &[&str], depth: usize) -> Vec<String> {
    let mut all: Vec<String> = first.iter().map(ToString::to_string).collect();
    let mut longest = all.clone();
    for _ in 1..depth {
        longest =
            longest.iter().flat_map(|head| rest.iter().map(move |tail| format!("{head}/{tail}"))).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

/// Every filter of up to four levels over {a, b, the empty level, +} that may begin with `$s`, each also with `/#`
/// behind it, and `#` alone.
fn small_filters() -> Vec<Filter> {
    let mut texts = names(&["a", "b", "", "+", "$s"], &["a", "b", "", "+"], 4);
    let with_rest: Vec<String> = texts.iter().map(|text| format!("{text}/#")).collect();
    texts.extend(with_rest);
    texts.push("#".to_owned());
    texts.retain(|text| !text.is_empty());
    texts.iter().map(|text| Filter::new(text).expect(text)).collect()
}

/// Every topic of up to five levels over the same names and `z`, which no filter names: it stands for every other name.
///
/// This is deep and wide enough to tell any two of [`small_filters`] apart. A filter of at most four levels and a `#`
/// treats all topics of five levels and more alike, and treats all names that it does not contain alike.
fn small_topics() -> Vec<String> {
    let mut topics = names(&["a", "b", "", "z", "$s"], &["a", "b", "", "z"], 5);
    topics.retain(|topic| !topic.is_empty());
    topics
}

/// MQTT 5.0, section 4.7, spelled out by recursion: slow, and obviously right.
fn oracle_matches(filter: &[&str], topic: &[&str], first: bool) -> bool {
    let hidden = first && topic.first().is_some_and(|level| level.starts_with('$'));
    match (filter, topic) {
        (["#"], _) => !hidden,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => !hidden && oracle_matches(filter, topic, false),
        ([f, filter @ ..], [t, topic @ ..]) => f == t && oracle_matches(filter, topic, false),
        _ => false,
    }
}

fn split(name: &str) -> Vec<&str> {
    name.split('/').collect()
}

#[test]
fn matches_agrees_with_the_oracle_on_every_small_pair() {
    let (filters, topics) = (small_filters(), small_topics());
    let topic_levels: Vec<Vec<&str>> = topics.iter().map(|topic| split(topic)).collect();
    let mut disagreements = 0;
    for filter in &filters {
        let levels = split(filter.as_str());
        for (topic, topic_levels) in topics.iter().zip(&topic_levels) {
            if filter.matches(topic) != oracle_matches(&levels, topic_levels, true) {
                disagreements += 1;
                eprintln!("{filter} against {topic}: matches says {}", filter.matches(topic));
            }
        }
    }
    println!("matches: {} pairs, {disagreements} disagreements", filters.len() * topics.len());
    assert_eq!(disagreements, 0);
}

/// Which of the small topics a filter matches, one bit each, found with the oracle alone.
fn matched(filter: &Filter, topics: &[Vec<&str>]) -> Vec<u64> {
    let levels = split(filter.as_str());
    topics
        .chunks(64)
        .map(|chunk| {
            chunk
                .iter()
                .enumerate()
                .fold(0, |bits, (i, t)| bits | u64::from(oracle_matches(&levels, t, true)) << i)
        })
        .collect()
}

#[test]
fn covers_and_overlaps_agree_with_brute_force_on_every_small_pair() {
    let (filters, topics) = (small_filters(), small_topics());
    let topic_levels: Vec<Vec<&str>> = topics.iter().map(|topic| split(topic)).collect();
    let sets: Vec<Vec<u64>> = filters.iter().map(|filter| matched(filter, &topic_levels)).collect();
    let (mut pairs, mut covering, mut overlapping, mut disagreements) = (0u64, 0u64, 0u64, 0u64);
    for (a, in_a) in filters.iter().zip(&sets) {
        for (b, in_b) in filters.iter().zip(&sets) {
            let covers = in_a.iter().zip(in_b).all(|(a, b)| b & !a == 0);
            let overlaps = in_a.iter().zip(in_b).any(|(a, b)| a & b != 0);
            pairs += 1;
            covering += u64::from(covers);
            overlapping += u64::from(overlaps);
            if a.covers(b) != covers || a.overlaps(b) != overlaps {
                disagreements += 1;
                eprintln!("{a} and {b}: covers is {covers}, overlaps is {overlaps}");
            }
        }
    }
    println!(
        "covers, overlaps: {} filters, {pairs} pairs, {} topics; {covering} cover, {overlapping} overlap, \
         {disagreements} disagreements",
        filters.len(),
        topics.len()
    );
    assert_eq!(disagreements, 0);
    assert!(pairs > 460_000, "the enumeration has shrunk");
}

#[test]
fn the_cases_that_others_got_wrong() {
    let f = |text: &str| Filter::new(text).unwrap();
    assert!(f("a/#").matches("a") && f("a/#").covers(&f("a")), "# means the parent too");
    assert!(f("a/+").matches("a/") && !f("a/+").matches("a"), "+ means an empty level, not a missing one");
    assert!(!f("#").matches("$s/a") && !f("#").covers(&f("$s/#")), "# does not mean $ names");
    assert!(!f("+/a").matches("$s/a") && f("a/+").matches("a/$s"), "$ is special in the first level only");
    assert!(!f("#").overlaps(&f("$s")) && f("$s/#").overlaps(&f("$s/+")));
    assert!(f("#").covers(&f("+/#")) && f("+/#").covers(&f("#")), "every topic has a first level");
    for text in ["$share/g/a", "a/#/b", "a+", "a/b#", "##", "", "a\u{0}b", "a\nb"] {
        assert!(Filter::new(text).is_err(), "{text:?} was taken");
    }
    let long = "x".repeat(limits::TOPIC_BYTES);
    assert!(Filter::new(&long).is_ok() && Filter::new(&format!("{long}x")).is_err());
    let deep = vec!["a"; limits::TOPIC_LEVELS].join("/");
    assert!(Filter::new(&deep).is_ok() && Filter::new(&format!("{deep}/a")).is_err());
}

/// Filters of up to 32 levels that often agree with each other, so that the interesting cases come up.
fn deep_filter() -> impl Strategy<Value = Filter> {
    let level = prop_oneof![6 => Just("a"), 1 => Just("b"), 1 => Just(""), 3 => Just("+")];
    let first = prop_oneof![8 => Just("a"), 2 => Just("+"), 1 => Just("$s")];
    (first, proptest::collection::vec(level, 0..limits::TOPIC_LEVELS), any::<bool>()).prop_map(
        |(first, rest, open)| {
            let mut levels = vec![first];
            levels.extend(rest);
            if open && levels.len() < limits::TOPIC_LEVELS {
                levels.push("#");
            }
            Filter::new(&levels.join("/")).unwrap()
        },
    )
}

/// A filter, and the same with a few levels changed.
fn near_pair() -> impl Strategy<Value = (Filter, Filter)> {
    let change = (0..limits::TOPIC_LEVELS, prop_oneof![Just("a"), Just("+"), Just("b"), Just("#")]);
    (deep_filter(), proptest::collection::vec(change, 0..4)).prop_map(|(filter, changes)| {
        let mut levels = split(filter.as_str());
        for (at, level) in changes {
            if level == "#" {
                levels.truncate(at.max(1));
                levels.pop_if(|last| *last == "#");
                levels.push("#");
            } else if let Some(old) = levels.get_mut(at).filter(|old| **old != "#") {
                *old = level;
            }
        }
        levels.truncate(limits::TOPIC_LEVELS);
        let other = Filter::new(&levels.join("/")).unwrap();
        (filter, other)
    })
}

fn deep_pair() -> impl Strategy<Value = (Filter, Filter)> {
    prop_oneof![near_pair(), near_pair().prop_map(|(a, b)| (b, a)), (deep_filter(), deep_filter())]
}

/// Topics that stand for all that a filter matches: `+` becomes a name that no filter has, `#` becomes nothing, or one
/// to `beyond` such names.
fn witnesses(filter: &Filter, beyond: usize) -> Vec<String> {
    let levels: Vec<&str> = filter.levels().map(|level| if level == "+" { "z" } else { level }).collect();
    match levels.split_last() {
        Some((&"#", [])) => (1..=beyond).map(|n| vec!["z"; n].join("/")).collect(),
        Some((&"#", head)) => (0..=beyond).map(|n| [head, &vec!["z"; n]].concat().join("/")).collect(),
        _ => vec![levels.join("/")],
    }
}

/// A topic that both match, put together level by level; `None` if there is none.
fn common_topic(a: &[&str], b: &[&str]) -> Option<Vec<String>> {
    match (a, b) {
        ([], []) | (["#"], []) | ([], ["#"]) | (["#"], ["#"]) => Some(Vec::new()),
        (["#"], levels) | (levels, ["#"]) => Some(
            levels
                .iter()
                .filter(|l| **l != "#")
                .map(|l| if *l == "+" { "z" } else { l }.to_owned())
                .collect(),
        ),
        ([x, a @ ..], [y, b @ ..]) if x == y || *x == "+" || *y == "+" => {
            let level = [*x, *y].into_iter().find(|level| *level != "+").unwrap_or("z");
            let mut topic = common_topic(a, b)?;
            topic.insert(0, level.to_owned());
            Some(topic)
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn matches_agrees_with_the_oracle_on_deep_names(
        (filter, other) in deep_pair(),
        swap in proptest::collection::vec((0..limits::TOPIC_LEVELS, prop_oneof![Just("a"), Just("q")]), 0..3),
    ) {
        for mut topic in witnesses(&other, 2).iter().map(|topic| split(topic)) {
            for (at, level) in &swap {
                if let Some(old) = topic.get_mut(*at) {
                    *old = level;
                }
            }
            let joined = topic.join("/");
            let expected = oracle_matches(&split(filter.as_str()), &topic, true);
            prop_assert_eq!(filter.matches(&joined), expected, "{} against {}", filter, joined);
        }
    }

    #[test]
    fn covers_agrees_with_witnesses_on_deep_filters((a, b) in deep_pair()) {
        let hidden_apart = a.as_str().starts_with('$') != b.as_str().starts_with('$');
        let every = witnesses(&b, limits::TOPIC_LEVELS + 1)
            .iter()
            .all(|topic| oracle_matches(&split(a.as_str()), &split(topic), true));
        prop_assert_eq!(a.covers(&b), every, "{} covers {}", a, b);
        prop_assert!(!hidden_apart || !a.covers(&b));
        prop_assert!(a.covers(&a), "{} covers itself", a);
    }

    #[test]
    fn overlaps_agrees_with_a_topic_put_together((a, b) in deep_pair()) {
        let (x, y) = (split(a.as_str()), split(b.as_str()));
        let common = common_topic(&x, &y)
            .map(|topic| if topic.is_empty() { vec!["z".to_owned()] } else { topic })
            .filter(|topic| {
                let topic: Vec<&str> = topic.iter().map(String::as_str).collect();
                oracle_matches(&x, &topic, true) && oracle_matches(&y, &topic, true)
            });
        prop_assert_eq!(a.overlaps(&b), common.is_some(), "{} overlaps {}", a, b);
        prop_assert_eq!(a.overlaps(&b), b.overlaps(&a), "the same from the other side");
    }
}
