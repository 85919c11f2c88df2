//! Tests of the command line's arguments; commands run against a real agent in the end-to-end tests.
#![expect(clippy::unwrap_used, reason = "tests")]

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(text: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(text.split(' '))
}

#[test]
fn the_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn commands_are_read() {
    for text in [
        "branchline agent --config /etc/b.toml",
        "branchline task add web.json",
        "branchline task add - --json",
        "branchline task rm web",
        "branchline task ls --json",
        "branchline task show web --json --socket /s",
        "branchline --socket /s status",
        "branchline sg apply groups.toml",
        "branchline sg apply - --prune --json",
        "branchline sg ls --json",
        "branchline sg show sg-web --json",
        "branchline sg diff groups.toml --prune",
        "branchline sg import a.json b.json --json",
        "branchline explain --from web --to 10.0.0.9 --proto tcp --port 443",
        "branchline explain --from fd00::9 --to web --proto icmpv6 --type 128 --code 0 --json",
        "branchline flows tail",
        "branchline flows tail --task web --task db --address 10.0.0.0/8 --port 443 --protocol tcp --json",
        "branchline flows tail --action reject --direction ingress --event start --event end",
        "branchline flows top --sort packets --limit 5 --once --json --port 443",
        "branchline flows query --since 1h --until 2026-11-28T11:00:00Z --action reject --json",
        "branchline flows query --socket /s --dir /a --dir /b --flow-log fl-0a --limit 5 --csv",
        "branchline doctor",
        "branchline doctor --config /etc/b.toml --json",
        "branchline purge --config /etc/b.toml --flow-logs --json",
    ] {
        parse(text).unwrap();
    }
    let arguments = parse("branchline task exec web --socket /s -- ping -c 1 --socket x").unwrap();
    assert_eq!(arguments.socket, Path::new("/s"));
    let Command::Task(TaskCommand::Exec { command, .. }) = arguments.command else {
        panic!("not exec")
    };
    assert_eq!(command, ["ping", "-c", "1", "--socket", "x"]);
    assert_eq!(
        parse("branchline status").unwrap().socket,
        Path::new("/run/branchline/agent.sock")
    );
}

#[test]
fn wrong_usage_exits_with_2() {
    for (text, kind) in [
        (
            "branchline",
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ),
        ("branchline agent", ErrorKind::MissingRequiredArgument),
        ("branchline purge", ErrorKind::MissingRequiredArgument),
        (
            "branchline task exec web",
            ErrorKind::MissingRequiredArgument,
        ),
        ("branchline sg import", ErrorKind::MissingRequiredArgument),
        ("branchline task rm a/b", ErrorKind::ValueValidation),
        ("branchline task frob", ErrorKind::InvalidSubcommand),
        (
            "branchline flows",
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ),
        (
            "branchline flows tail --port 65536",
            ErrorKind::ValueValidation,
        ),
        (
            "branchline flows tail --address 10.0.0",
            ErrorKind::ValueValidation,
        ),
        (
            "branchline flows tail --event begin",
            ErrorKind::ValueValidation,
        ),
        (
            "branchline flows top --event end",
            ErrorKind::UnknownArgument,
        ),
        (
            "branchline flows top --sort name",
            ErrorKind::ValueValidation,
        ),
        (
            "branchline flows query --since yesterday",
            ErrorKind::ValueValidation,
        ),
        (
            "branchline flows query --json --csv",
            ErrorKind::ArgumentConflict,
        ),
        ("branchline status --jsno", ErrorKind::UnknownArgument),
    ] {
        let error = parse(text).unwrap_err();
        if let Some(flag) = text.split(' ').find(|word| word.starts_with("--")) {
            assert!(error.to_string().contains(flag), "{error}");
        }
        assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{text}");
    }
}

/// Commands without `--json`, and why.
const WITHOUT_JSON: [(&str, &str); 10] = [
    ("agent", "prints nothing; it logs"),
    ("task rm", "prints nothing"),
    ("task exec", "what it prints is the command's"),
    ("ecs run-task", "prints JSON always, as the AWS CLI"),
    ("ecs describe-tasks", "prints JSON always, as the AWS CLI"),
    ("ecs stop-task", "prints JSON always, as the AWS CLI"),
    ("completions", "prints a shell's program"),
    ("man", "prints nothing; it writes files"),
    ("openapi", "prints JSON always"),
    ("help", "prints help"),
];

/// The commands below `command` that have none below them, each by its words and whether it takes `--json`.
fn leaves(command: &clap::Command, words: &str, found: &mut Vec<(String, bool)>) {
    for below in command.get_subcommands() {
        let words = format!("{words} {}", below.get_name());
        let words = words.trim_start();
        if below.has_subcommands() {
            leaves(below, words, found);
            continue;
        }
        let is_switch = |argument: &clap::Arg| {
            argument.get_long() == Some("json") && !argument.get_action().takes_values()
        };
        found.push((words.to_owned(), below.get_arguments().any(is_switch)));
    }
}

#[test]
fn every_command_that_prints_data_prints_it_as_json() {
    let mut found = Vec::new();
    leaves(&Arguments::command(), "", &mut found);
    assert!(found.len() > 25, "{found:?}");
    for (words, has_json) in &found {
        let exception = WITHOUT_JSON.iter().find(|(name, _)| name == words);
        match (has_json, exception) {
            (true, None) | (false, Some(_)) => {}
            (false, None) => panic!("`branchline {words}` has no --json, and no reason for that"),
            (true, Some((_, why))) => panic!("`branchline {words}` has --json, although it {why}"),
        }
    }
}

#[test]
fn what_purge_prints_as_json_has_two_lists() {
    let purged = Purged {
        removed: vec!["task web".to_owned()],
        left: Vec::new(),
    };
    let expected = serde_json::json!({"removed": ["task web"], "left": []});
    assert_eq!(serde_json::to_value(purged).unwrap(), expected);
}
