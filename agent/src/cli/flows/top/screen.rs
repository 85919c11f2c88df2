//! The screen: a line on top, tasks, flows, a line of keys. Draws what it is given and nothing else.
//!
//! What does not fit goes: columns by width, the tasks and the lines by height.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::state::State;
use crate::cli::text::flows::{FLOW_COLUMNS, TASK_COLUMNS, flow_cells, task_cells};
use crate::flows::Action;
use crate::live::{FlowRate, FlowRates, TaskRate};

/// Rows of the terminal below which tasks are left out.
const TASKS_FROM: u16 = 12;
/// Rows of the terminal below which only flows are left.
const LINES_FROM: u16 = 4;

const HEADER: Style = Style::new().add_modifier(Modifier::REVERSED);
const REJECTED: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// A table's column: index among the cells, and width.
type Column = (usize, Constraint);

const TASK: Constraint = Constraint::Max(16);
const WIDE: Constraint = Constraint::Fill(1);
const RATE: Constraint = Constraint::Length(9);

/// Columns of the flows by width of the terminal, widest first.
const FLOWS_BY_WIDTH: [(u16, &[Column]); 4] = [
    (
        108,
        &[
            (0, TASK),
            (1, WIDE),
            (2, Constraint::Length(6)),
            (3, RATE),
            (4, RATE),
            (5, RATE),
            (6, RATE),
        ],
    ),
    (72, &[(0, TASK), (1, WIDE), (3, RATE), (4, RATE)]),
    (48, &[(1, WIDE), (3, RATE), (4, RATE)]),
    (0, &[(1, WIDE)]),
];

/// The same of the tasks.
const TASKS_BY_WIDTH: [(u16, &[Column]); 3] = [
    (
        80,
        &[
            (0, WIDE),
            (1, RATE),
            (2, RATE),
            (3, RATE),
            (4, RATE),
            (5, RATE),
            (6, Constraint::Length(14)),
        ],
    ),
    (40, &[(0, WIDE), (2, RATE), (3, RATE)]),
    (0, &[(0, WIDE)]),
];

pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let line = Constraint::Length(u16::from(area.height >= LINES_FROM));
    let tasks = state
        .rates()
        .map_or(0, |rates| rates.tasks.len() as u16 + 2);
    let tasks = if area.height >= TASKS_FROM {
        tasks.min(area.height / 3)
    } else {
        0
    };
    let parts = [line, Constraint::Length(tasks), Constraint::Fill(1), line];
    let [top, tasks, flows, bottom] = Layout::vertical(parts).areas(area);
    frame.render_widget(Paragraph::new(title(state)), top);
    match state.rates() {
        Some(rates) => {
            draw_tasks(frame, tasks, rates);
            draw_flows(frame, flows, rates, state.scrolled());
        }
        None => frame.render_widget(Paragraph::new("waiting for the first sample"), flows),
    }
    frame.render_widget(Paragraph::new(keys(state)), bottom);
}

fn title(state: &State) -> String {
    let mut parts = vec!["flows".to_owned()];
    if let Some(rates) = state.rates() {
        parts[0] = format!("{} flows", rates.flow_count);
        parts.push(format!("over {:.1} s", rates.seconds));
    }
    parts.push(format!("by {}", state.query().sort));
    if !state.words().is_empty() {
        parts.push(format!("only {}", state.words()));
    }
    if state.is_paused() {
        parts.push("PAUSED".to_owned());
    }
    parts.join(" · ")
}

fn keys(state: &State) -> Line<'_> {
    match (state.input(), state.problem()) {
        (Some(input), None) => Line::from(format!("filter: {input}▏ Enter apply, Esc leave")),
        (Some(input), Some(problem)) => Line::from(vec![
            Span::from(format!("filter: {input}▏ ")),
            Span::styled(problem, REJECTED),
        ]),
        (None, _) => {
            Line::from("q quit  b/p/r sort by bytes/packets/rejects  / filter  space pause")
        }
    }
}

fn draw_tasks(frame: &mut Frame<'_>, area: Rect, rates: &FlowRates) {
    let columns = columns(&TASKS_BY_WIDTH, area.width);
    let row = |task: &TaskRate| {
        let style = |index| {
            if index == 6 && task.rejected_packets_per_second > 0.0 {
                REJECTED
            } else {
                Style::new()
            }
        };
        let cells = task_cells(task);
        let cells = columns
            .iter()
            .map(|(index, _)| Cell::from(aligned(&cells[*index], *index > 0)).style(style(*index)));
        Row::new(cells.collect::<Vec<_>>())
    };
    let rows = rates.tasks.iter().map(row).collect();
    frame.render_widget(table(columns, &TASK_COLUMNS, 1, rows), area);
}

fn draw_flows(frame: &mut Frame<'_>, area: Rect, rates: &FlowRates, scrolled: usize) {
    let columns = columns(&FLOWS_BY_WIDTH, area.width);
    let row = |flow: &FlowRate| {
        let cells = flow_cells(flow);
        let cells = columns
            .iter()
            .map(|(index, _)| Cell::from(aligned(&cells[*index], *index > 2)));
        let row = Row::new(cells.collect::<Vec<_>>());
        if flow.flow.action == Action::Reject {
            row.style(REJECTED)
        } else {
            row
        }
    };
    let shown = rates.flows.iter().skip(scrolled).take(area.height.into());
    let rows = shown.map(row).collect();
    frame.render_widget(table(columns, &FLOW_COLUMNS, 3, rows), area);
}

/// The columns for a width.
fn columns(by_width: &'static [(u16, &'static [Column])], width: u16) -> &'static [Column] {
    let fitting = by_width.iter().find(|(from, _)| width >= *from);
    fitting.map_or(&[], |(_, columns)| *columns)
}

/// A table whose columns from `numbers` on are numbers.
fn table<'a>(
    columns: &[Column],
    names: &'a [&'a str],
    numbers: usize,
    rows: Vec<Row<'a>>,
) -> Table<'a> {
    let header = columns
        .iter()
        .map(|(index, _)| aligned(names[*index], *index >= numbers));
    let header = Row::new(header.collect::<Vec<_>>()).style(HEADER);
    Table::new(rows, columns.iter().map(|(_, width)| *width)).header(header)
}

fn aligned<'a>(text: &str, is_number: bool) -> Line<'a> {
    let line = Line::from(text.to_owned());
    if is_number {
        line.right_aligned()
    } else {
        line
    }
}
