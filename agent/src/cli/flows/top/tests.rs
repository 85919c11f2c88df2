//! Keys, and the screen as ratatui's terminal in memory shows it.
#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::verdict::Direction;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::super::screen::draw;
use super::*;
use crate::flows::Action;
use crate::live::{Flow, FlowRate, Rate, TaskRate};

fn sample() -> FlowRates {
    let flow = |action, port, bytes| FlowRate {
        flow: Flow {
            task_id: Some("web".into()),
            interface_id: Some("eni-1".into()),
            direction: Direction::Ingress,
            srcaddr: "10.0.2.7".parse().unwrap(),
            dstaddr: "10.0.1.5".parse().unwrap(),
            srcport: 4711,
            dstport: port,
            protocol: 6,
            action,
            drop_reason: None,
            icmp_id: None,
        },
        rate: Rate {
            ingress_bytes_per_second: bytes,
            ..Rate::default()
        },
    };
    let task = |name: &str, rejected| TaskRate {
        task_id: Some(name.into()),
        interface_id: "eni-1".into(),
        flows: 2,
        rate: Rate::default(),
        rejected_packets_per_second: rejected,
    };
    FlowRates {
        time_ms: 0,
        seconds: 1.0,
        tasks: vec![task("web", 4.0), task("db", 0.0)],
        flows: vec![
            flow(Action::Accept, 443, 12_345.0),
            flow(Action::Reject, 22, 60.0),
        ],
        flow_count: 2,
    }
}

fn state() -> State {
    let mut state = State::new(Query::default());
    state.show(sample());
    state
}

/// The rows of a terminal of this size, and which of them have red in them.
fn drawn(state: &State, width: u16, height: u16) -> (Vec<String>, Vec<usize>) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer();
    let (mut rows, mut red) = (Vec::new(), Vec::new());
    for y in 0..height {
        let cells = (0..width).map(|x| buffer.cell((x, y)).unwrap());
        if cells.clone().any(|cell| cell.fg == Color::Red) {
            red.push(usize::from(y));
        }
        let row: String = cells.map(|cell| cell.symbol()).collect();
        rows.push(row.trim_end().to_owned());
    }
    (rows, red)
}

#[test]
fn the_screen_has_tasks_flows_and_rejects_in_red() {
    let (rows, red) = drawn(&state(), 110, 14);
    let expected = [
        "2 flows · over 1.0 s · by bytes",
        "TASK                                            FLOWS    IN B/s   OUT B/s  IN pkt/s OUT pkt/s REJECTED pkt/s",
        "web                                                 2         0         0         0         0              4",
        "db                                                  2         0         0         0         0              0",
        "",
        "TASK             FLOW                                             ACTION    IN B/s   OUT B/s  IN pkt/s OUT pkt/s",
        "web              tcp 10.0.2.7:4711 → 10.0.1.5:443                 ACCEPT     12.3k         0         0         0",
        "web              tcp 10.0.2.7:4711 → 10.0.1.5:22                  REJECT        60         0         0         0",
    ];
    let squeezed = |row: &str| row.split_whitespace().collect::<Vec<_>>().join(" ");
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(squeezed(row), squeezed(expected));
    }
    assert!(rows[13].starts_with("q quit"), "{rows:?}");
    assert_eq!(red, [2, 7]);
}

#[test]
fn what_does_not_fit_is_left_out_and_the_flows_stay() {
    for (width, height) in [
        (80, 24),
        (60, 10),
        (40, 6),
        (20, 3),
        (5, 2),
        (1, 1),
        (300, 100),
    ] {
        let (rows, _) = drawn(&state(), width, height);
        let has = |text: &str| rows.iter().any(|row| row.contains(text));
        let name = format!("{width} by {height}: {rows:?}");
        assert_eq!(
            has("tcp 10.0.2.7:4711"),
            width >= 20 && height > 1,
            "{name}"
        );
        assert_eq!(has("FLOWS") || has("db"), height >= 12, "{name}");
        assert_eq!(has("q quit"), height >= 4, "{name}");
        assert_eq!(has("12.3k"), width >= 48 && height > 1, "{name}");
    }
    drawn(&State::new(Query::default()), 1, 1);
}

fn press(state: &mut State, code: KeyCode) -> Answer {
    state.event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

#[test]
fn keys_sort_pause_scroll_and_quit() {
    let mut state = state();
    for (key, sort) in [
        ('r', Sort::Rejects),
        ('p', Sort::Packets),
        ('b', Sort::Bytes),
    ] {
        assert_eq!(press(&mut state, KeyCode::Char(key)), Answer::Ask);
        assert_eq!(state.query().sort, sort);
    }
    assert_eq!(press(&mut state, KeyCode::Down), Answer::Stay);
    let (rows, _) = drawn(&state, 110, 14);
    assert!(!rows.iter().any(|row| row.contains(":443")), "{rows:?}");
    press(&mut state, KeyCode::PageDown);
    assert_eq!(state.scrolled(), 1);
    press(&mut state, KeyCode::Up);
    assert_eq!(state.scrolled(), 0);
    press(&mut state, KeyCode::Char(' '));
    state.show(FlowRates {
        flow_count: 77,
        ..sample()
    });
    let (rows, _) = drawn(&state, 110, 14);
    assert_eq!(rows[0], "2 flows · over 1.0 s · by bytes · PAUSED");
    assert_eq!(press(&mut state, KeyCode::Char('q')), Answer::Quit);
    assert_eq!(press(&mut state, KeyCode::Esc), Answer::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    press(&mut state, KeyCode::Char('/'));
    assert_eq!(state.event(&Event::Key(interrupt)), Answer::Quit);
}

#[test]
fn a_filter_is_written_and_its_mistakes_are_told() {
    let mut state = state();
    let write = |state: &mut State, text: &str| {
        press(state, KeyCode::Char('/'));
        for letter in text.chars() {
            assert_eq!(press(state, KeyCode::Char(letter)), Answer::Stay);
        }
        press(state, KeyCode::Enter)
    };
    assert_eq!(write(&mut state, "web 443 q"), Answer::Ask);
    let expected = Query::parse("task=web&task=q&port=443").unwrap().filter;
    assert_eq!(state.query().filter, expected);
    let (rows, _) = drawn(&state, 110, 14);
    assert!(rows[0].ends_with("only web q 443"), "{rows:?}");
    // The filter in force is where writing begins.
    assert_eq!(write(&mut state, " a/b"), Answer::Stay);
    assert_eq!(state.query().filter, expected);
    let (rows, red) = drawn(&state, 110, 14);
    assert!(rows[13].contains("\"a/b\" is no filter"), "{rows:?}");
    assert!(red.contains(&13));
    for _ in 0.."web q 443 a/b".len() {
        press(&mut state, KeyCode::Backspace);
    }
    assert_eq!(press(&mut state, KeyCode::Enter), Answer::Ask);
    assert_eq!(state.query().filter, Filter::default());
    press(&mut state, KeyCode::Char('/'));
    press(&mut state, KeyCode::Char('x'));
    assert_eq!(press(&mut state, KeyCode::Esc), Answer::Stay);
    assert_eq!((state.input(), state.words()), (None, ""));
}
