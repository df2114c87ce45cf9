//! What grants allow: a table for people, and a property for everything the table does not show.

use anabranch_gateway::auth::grants::{GRANTS, GrantError, GrantList, Grants, Kind};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::topic::NameError;
use proptest::prelude::*;

fn grants(list: &[(Kind, &str)]) -> Grants {
    let mut gathered = GrantList::default();
    for (kind, filter) in list {
        gathered.push(*kind, filter).unwrap_or_else(|e| panic!("{filter}: {e}"));
    }
    gathered.into()
}

/// What a principal was given.
type Given = &'static [(Kind, &'static str)];

const YES: bool = true;
const NO: bool = false;

#[test]
fn a_subscription_is_covered_by_one_grant_or_refused() {
    use Kind::*;
    let table: &[(&str, Given, &str, bool)] = &[
        ("nothing is granted by default", &[], "a", NO),
        ("an exact grant", &[(Read, "a/b")], "a/b", YES),
        ("another topic", &[(Read, "a/b")], "a/c", NO),
        ("a wildcard grant, an exact wish", &[(Read, "a/+")], "a/b", YES),
        ("an exact grant, a wildcard wish", &[(Read, "a/b")], "a/+", NO),
        ("the same wildcard", &[(Read, "a/+/c")], "a/+/c", YES),
        ("+ is one level only", &[(Read, "a/+")], "a/b/c", NO),
        ("# reaches the parent", &[(Read, "a/#")], "a", YES),
        ("the parent is not the child", &[(Read, "a")], "a/#", NO),
        ("# within #", &[(Read, "a/#")], "a/b/#", YES),
        ("# over +", &[(Read, "a/#")], "a/+/c", YES),
        ("+ does not cover #", &[(Read, "a/+")], "a/#", NO),
        ("everything is asked, little is granted", &[(Read, "a/#")], "#", NO),
        ("everything", &[(Read, "#")], "#", YES),
        ("everything does not mean $ topics", &[(Read, "#")], "$SYS/#", NO),
        ("$ topics by name", &[(Read, "$SYS/#")], "$SYS/broker/+", YES),
        ("$ topics do not mean everything", &[(Read, "$SYS/#")], "#", NO),
        ("+ does not mean $ names", &[(Read, "+/a")], "$SYS/a", NO),
        ("an empty level is a level", &[(Read, "a/+")], "a/", YES),
        ("a name that begins alike", &[(Read, "dev/d1")], "dev/d10", NO),
        ("grants do not add up", &[(Read, "a/b"), (Read, "a/c")], "a/+", NO),
        ("any one of several", &[(Read, "x"), (Read, "a/#"), (Read, "y")], "a/b", YES),
        ("a right to write is none to read", &[(Write, "a/#")], "a/b", NO),
        ("denied exactly", &[(Read, "a/#"), (DenyRead, "a/b")], "a/b", NO),
        ("denied in part is denied", &[(Read, "a/#"), (DenyRead, "a/b")], "a/+", NO),
        ("denied beside", &[(Read, "a/#"), (DenyRead, "a/b")], "a/c/#", YES),
        ("denied by a wildcard", &[(Read, "#"), (DenyRead, "+/secret/#")], "a/secret", NO),
        ("denied deep below", &[(Read, "#"), (DenyRead, "a/b/c/d")], "a/#", NO),
        ("deny beats the more exact allow", &[(Read, "a/b"), (DenyRead, "a/#")], "a/b", NO),
        ("the order does not matter", &[(DenyRead, "a/b"), (Read, "a/b")], "a/b", NO),
        ("deny means both", &[(Read, "#"), (Deny, "a/#")], "a/b", NO),
        ("a denied write leaves reading", &[(Read, "#"), (DenyWrite, "#")], "a/b", YES),
        ("a denied everything leaves $ topics", &[(Read, "$SYS/a"), (DenyRead, "#")], "$SYS/a", YES),
    ];
    for (name, list, wish, expected) in table {
        let wish = Filter::new(wish).unwrap();
        assert_eq!(grants(list).may_subscribe(&wish), *expected, "{name}: {list:?} asked for {wish:?}");
    }
    println!("{} subscriptions judged", table.len());
}

#[test]
fn a_topic_is_read_and_written_by_separate_rights() {
    use Kind::*;
    // name, grants, topic, may read, may write
    let table: &[(&str, Given, &str, bool, bool)] = &[
        ("nothing", &[], "a", NO, NO),
        ("read only", &[(Read, "a/#")], "a/b", YES, NO),
        ("write only", &[(Write, "a/#")], "a/b", NO, YES),
        ("both", &[(Read, "a/#"), (Write, "a/b")], "a/b", YES, YES),
        ("denied both", &[(Read, "#"), (Write, "#"), (Deny, "a/+")], "a/b", NO, NO),
        ("denied both, beside", &[(Read, "#"), (Write, "#"), (Deny, "a/+")], "a/b/c", YES, YES),
        ("denied reading", &[(Read, "#"), (Write, "#"), (DenyRead, "a/b")], "a/b", NO, YES),
        ("denied writing", &[(Read, "#"), (Write, "#"), (DenyWrite, "a/b")], "a/b", YES, NO),
        ("$ topics", &[(Read, "#"), (Write, "+/a")], "$SYS/a", NO, NO),
        ("the parent of #", &[(Read, "a/#"), (Write, "a/#")], "a", YES, YES),
        ("upper case is another name", &[(Read, "a/b")], "A/b", NO, NO),
    ];
    for (name, list, topic, read, write) in table {
        let grants = grants(list);
        assert_eq!(grants.may_read(topic), *read, "{name}: {list:?} reading {topic}");
        assert_eq!(grants.may_write(topic), *write, "{name}: {list:?} writing {topic}");
    }
}

#[test]
fn everything_is_everything_but_hidden_topics() {
    let all = Grants::everything();
    assert!(all.may_read("a/b") && all.may_write("a/b") && !all.may_read("$SYS/a"));
    assert!(!all.is_empty() && Grants::default().is_empty());
}

#[test]
fn bad_filters_and_too_many_are_refused() {
    let mut list = GrantList::default();
    assert_eq!(list.push(Kind::Read, "a/b+"), Err(GrantError::Filter(NameError::MisplacedWildcard)));
    assert_eq!(list.push(Kind::Read, "$share/g/a"), Err(GrantError::Filter(NameError::Shared)));
    assert_eq!(list.push(Kind::Read, ""), Err(GrantError::Filter(NameError::Empty)));
    for i in 0..GRANTS - 1 {
        list.push(Kind::Read, &format!("a/{i}")).unwrap();
    }
    assert_eq!(list.push(Kind::Deny, "b"), Err(GrantError::TooMany), "a deny counts twice");
    list.push(Kind::Write, "b").unwrap();
    assert_eq!(list.push(Kind::Write, "c"), Err(GrantError::TooMany));
}

#[test]
fn equal_grants_are_equal_however_they_were_written() {
    let a = grants(&[(Kind::Read, "b"), (Kind::Read, "a"), (Kind::Deny, "c"), (Kind::Read, "a")]);
    let b = grants(&[(Kind::DenyWrite, "c"), (Kind::Read, "a"), (Kind::Read, "b"), (Kind::DenyRead, "c")]);
    assert_eq!(a, b);
}

fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("+"), Just(""), Just("$s")]
}

fn filter() -> impl Strategy<Value = String> {
    (proptest::collection::vec(level(), 0..4), any::<bool>()).prop_filter_map(
        "empty",
        |(mut levels, rest)| {
            if rest {
                levels.push("#");
            }
            let text = levels.join("/");
            Filter::new(&text).is_ok().then_some(text)
        },
    )
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Read),
        1 => Just(Kind::Write),
        1 => Just(Kind::Deny),
        1 => Just(Kind::DenyRead),
        1 => Just(Kind::DenyWrite)
    ]
}

/// Every topic of up to four levels over the letters of [`level`] and one that no filter names.
fn topics() -> Vec<String> {
    let mut all: Vec<String> = ["a", "b", "", "$s", "z"].map(String::from).to_vec();
    let mut longest = all.clone();
    for _ in 0..3 {
        longest = longest
            .iter()
            .flat_map(|head| ["a", "b", "", "$s", "z"].map(|tail| format!("{head}/{tail}")))
            .collect();
        all.extend(longest.iter().cloned());
    }
    all.retain(|topic| !topic.is_empty());
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// What `may_subscribe` promises, and what the rules say of single topics, for any mixture of grants.
    #[test]
    fn what_may_be_subscribed_may_be_read(
        list in proptest::collection::vec((kind(), filter()), 0..6),
        wish in filter(),
    ) {
        let list: Vec<(Kind, &str)> = list.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
        let (grants, wish) = (grants(&list), Filter::new(&wish).unwrap());
        let any = |kinds: &[Kind], topic: &str| {
            list.iter().any(|(kind, text)| kinds.contains(kind) && Filter::new(text).unwrap().matches(topic))
        };
        let allowed = grants.may_subscribe(&wish);
        for topic in topics() {
            let readable = any(&[Kind::Read], &topic) && !any(&[Kind::Deny, Kind::DenyRead], &topic);
            prop_assert_eq!(grants.may_read(&topic), readable, "reading {}", topic);
            let writable = any(&[Kind::Write], &topic) && !any(&[Kind::Deny, Kind::DenyWrite], &topic);
            prop_assert_eq!(grants.may_write(&topic), writable, "writing {}", topic);
            prop_assert!(!(allowed && wish.matches(&topic)) || readable, "{:?} was granted, {} may not be read", wish, topic);
        }
    }
}
