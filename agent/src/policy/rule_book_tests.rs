//! Which rules stay known, for how long, and what is never said.

use super::*;
use crate::policy::OpenTo;

const TCP: u8 = 6;
const UDP: u8 = 17;

fn open(id: &str, protocol: Option<u8>, ports: (u16, u16)) -> NumberedRule {
    NumberedRule {
        group_id: "sg-a".to_owned(),
        rule_id: id.to_owned(),
        opens: Some(OpenTo { protocol, ports }),
    }
}

fn page(rules: Vec<NumberedRule>, numbered_at: u32, epoch: u32) -> Page {
    let mut scopes: [Vec<NumberedRule>; SCOPES] = Default::default();
    scopes[1] = rules;
    Page {
        rules: Arc::new(scopes),
        kept: KeptPage { numbered_at, epoch },
    }
}

fn closed(id: &str, numbered_at: u32) -> Page {
    let rule = NumberedRule {
        opens: None,
        ..open(id, None, (0, 0))
    };
    page(vec![rule], numbered_at, 0)
}

fn id(names: &RuleNames, generation: u32) -> Option<String> {
    let rule = names.rule(generation, 1, 0);
    rule.map(|rule| rule.rule_id.clone())
}

/// The rule by which slot 3 admits TCP to port 80.
fn open_id(book: &RuleBook) -> Option<String> {
    let names = book.names();
    let (generation, number) = names.open_rule(3, 1, TCP, 80)?;
    let rule = names.rule(generation, 1, number);
    rule.map(|rule| rule.rule_id.clone())
}

#[test]
fn a_retired_page_stays_as_long_as_a_connection_holds_it() {
    let book = RuleBook::default();
    book.enter(1, closed("sgr-1", 1));
    book.enter(2, closed("sgr-2", 2));
    let id = |generation| id(&book.names(), generation);
    assert_eq!(id(1).as_deref(), Some("sgr-1"));
    assert_eq!(book.names().rule(1, 1, 1), None);
    assert_eq!(book.names().rule(1, 0, 0), None);
    let before = book.names();
    book.retire(1);
    let _ = book.forget_others(&before, &BTreeSet::new());
    assert!(
        id(1).is_some(),
        "it retired while connections were looked at"
    );
    let _ = book.forget_others(&book.names(), &BTreeSet::from([1]));
    assert!(id(1).is_some(), "a connection holds it");
    let forgotten = book.forget_others(&book.names(), &BTreeSet::from([2]));
    assert_eq!((id(1), id(2).as_deref()), (None, Some("sgr-2")));
    let expected = Forgotten {
        generations: vec![1],
        rules: vec![1],
    };
    assert_eq!(forgotten, expected);
}

#[test]
fn rules_leave_the_store_with_their_last_page() {
    let book = RuleBook::default();
    let rules = closed("sgr-1", 1);
    for generation in [1, 2] {
        book.enter(generation, rules.clone());
        book.retire(generation);
    }
    let forget = |held: &[u32]| book.forget_others(&book.names(), &held.iter().copied().collect());
    let first = forget(&[2]);
    assert_eq!((first.generations, first.rules), (vec![1], vec![]));
    let second = forget(&[]);
    assert_eq!((second.generations, second.rules), (vec![2], vec![1]));
}

#[test]
fn pages_of_an_earlier_agent_stay_until_no_eni_obeys_them() {
    let book = RuleBook::default();
    book.take_up(
        BTreeMap::from([(7, closed("sgr-7", 7))]),
        BTreeMap::from([(3, 7)]),
        9,
    );
    let forget = || book.forget_others(&book.names(), &BTreeSet::new());
    assert_eq!(forget(), Forgotten::default());
    book.enter(1_025, closed("sgr-7", 1_025));
    book.obey([3], 1_025);
    book.retire_earlier();
    assert_eq!(forget(), Forgotten::default(), "rows may be of it");
    book.end_epoch(9);
    assert_eq!(forget(), Forgotten::default(), "rows of epoch 9 may");
    book.end_epoch(10);
    assert_eq!(forget().generations, [7]);
}

#[test]
fn the_first_rule_open_to_the_port_is_the_one() {
    let book = RuleBook::default();
    let rules = vec![
        open("sgr-udp", Some(UDP), (0, 65_535)),
        open("sgr-low", Some(TCP), (0, 79)),
        open("sgr-web", Some(TCP), (80, 443)),
        open("sgr-any", None, (0, 65_535)),
        NumberedRule {
            opens: None,
            ..open("sgr-peer", None, (0, 0))
        },
    ];
    book.enter(5, page(rules, 5, 0));
    book.obey([3], 5);
    let names = book.names();
    for (protocol, port, number) in [(TCP, 80, 2), (TCP, 443, 2), (TCP, 444, 3), (UDP, 80, 0)] {
        let found = names.open_rule(3, 1, protocol, port);
        assert_eq!(found, Some((5, number)), "{protocol} {port}");
    }
    assert_eq!(names.open_rule(3, 0, TCP, 80), None, "another scope");
    assert_eq!(names.open_rule(4, 1, TCP, 80), None, "another ENI");
}

#[test]
fn policies_that_were_obeyed_meanwhile_must_agree() {
    let book = RuleBook::default();
    let web = |id: &str, generation| page(vec![open(id, Some(TCP), (80, 80))], generation, 0);
    book.enter(5, web("sgr-one", 5));
    book.obey([3], 5);
    book.end_epoch(1);
    // A member came: the same rules.
    book.enter(6, web("sgr-one", 5));
    book.obey([3], 6);
    assert_eq!(open_id(&book).as_deref(), Some("sgr-one"));
    book.enter(7, web("sgr-two", 7));
    book.obey([3], 7);
    assert_eq!(open_id(&book), None);
    book.end_epoch(2);
    assert_eq!(open_id(&book), None, "epoch 2 had both");
    book.end_epoch(2);
    assert_eq!(open_id(&book), None, "it had not ended after all");
    book.end_epoch(3);
    assert_eq!(open_id(&book).as_deref(), Some("sgr-two"));
    // Another rule of the group has changed.
    book.enter(8, web("sgr-two", 8));
    book.obey([3], 8);
    assert_eq!(open_id(&book).as_deref(), Some("sgr-two"));
    book.leave(3);
    assert_eq!(open_id(&book), None);
}

#[test]
fn of_an_earlier_agent_only_old_policies_are_believed() {
    let web = |epoch| page(vec![open("sgr-web", Some(TCP), (80, 80))], 7, epoch);
    let taken_up = |kept: &[(u32, u32)], now| {
        let book = RuleBook::default();
        let kept = kept
            .iter()
            .map(|(generation, epoch)| (*generation, web(*epoch)));
        book.take_up(kept.collect(), BTreeMap::from([(3, 7)]), now);
        book
    };
    assert!(open_id(&taken_up(&[(7, 6)], 9)).is_some());
    let young = taken_up(&[(7, 7)], 9);
    assert_eq!(open_id(&young), None, "it may have come in epoch 8");
    assert!(id(&young.names(), 7).is_some(), "connections know");
    young.end_epoch(9);
    assert_eq!(open_id(&young), None, "epoch 9 is not read");
    young.end_epoch(10);
    assert!(open_id(&young).is_some());
    let abandoned = taken_up(&[(7, 1), (8, 8)], 9);
    assert_eq!(open_id(&abandoned), None, "8 may have been tried");
    assert_eq!(open_id(&taken_up(&[], 9)), None, "a lost store");
}

#[test]
fn pages_of_other_maps_mean_nothing() {
    let page = |numbered_at| KeptPage {
        numbered_at,
        epoch: 1,
    };
    let pages = vec![(3, page(3)), (4, page(3)), (6, page(9)), (7, page(7))];
    let rules = |numbers: [u32; 3]| numbers.map(|number| (number, closed("sgr-1", 3).rules));
    let (kept, forgotten) = usable(pages.clone(), rules([3, 5, 7]).to_vec(), 6);
    assert_eq!(kept.into_keys().collect::<Vec<_>>(), [3, 4]);
    let expected = Forgotten {
        generations: vec![6, 7],
        rules: vec![5, 7],
    };
    assert_eq!(forgotten, expected);
    let (kept, forgotten) = usable(pages, rules([3, 5, 7]).to_vec(), 0);
    assert!(kept.is_empty(), "the maps are new");
    assert_eq!(forgotten.generations.len(), 4);
}
