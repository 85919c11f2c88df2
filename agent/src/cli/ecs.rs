//! `branchline ecs`: tasks in ECS's own words, with the arguments that the AWS CLI takes.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::{CommandError, read_input, wait, write_out};

/// `branchline ecs`. The answers are JSON, as the AWS CLI prints them.
#[derive(Debug, Subcommand)]
pub(super) enum EcsCommand {
    /// Give a task of a task definition its network.
    RunTask(RunTaskArguments),
    /// Show tasks; those that have gone, for an hour.
    DescribeTasks {
        /// Their ids or ARNs.
        #[arg(long, num_args = 1.., required = true)]
        tasks: Vec<String>,
    },
    /// Take a task's network away.
    StopTask {
        /// Its id or ARN.
        #[arg(long)]
        task: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct RunTaskArguments {
    /// A file with RunTask's whole input, or - for standard input.
    #[arg(long, value_name = "FILE")]
    cli_input_json: Option<PathBuf>,
    /// family:revision, an ARN, or file:// and a file with the definition.
    #[arg(long)]
    task_definition: Option<String>,
    /// JSON, file:// and a file, or awsvpcConfiguration={subnets=[...],securityGroups=[...]}.
    #[arg(long)]
    network_configuration: Option<String>,
    /// Name or ARN of the cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// service: and the service's name.
    #[arg(long)]
    group: Option<String>,
    /// The same in every repeat of the request.
    #[arg(long)]
    client_token: Option<String>,
    /// The task's id; made up if left out.
    #[arg(long)]
    task_id: Option<String>,
}

pub(super) fn run(command: EcsCommand, client: &Client) -> Result<(), CommandError> {
    let answer: Value = match command {
        EcsCommand::RunTask(arguments) => {
            let request = run_task(arguments)?;
            wait(client.ecs("run-task", &request))??
        }
        EcsCommand::DescribeTasks { tasks } => {
            wait(client.ecs("describe-tasks", &json!({"tasks": tasks})))??
        }
        EcsCommand::StopTask { task } => wait(client.ecs("stop-task", &json!({"task": task})))??,
    };
    let text = serde_json::to_string_pretty(&answer).expect("answers are JSON");
    write_out(&(text + "\n"))
}

/// The request that the arguments say: the file's, and over it what is said beside.
fn run_task(arguments: RunTaskArguments) -> Result<Value, CommandError> {
    let mut request = match &arguments.cli_input_json {
        Some(path) => read_json(path)?,
        None => json!({}),
    };
    let network = arguments.network_configuration.as_deref();
    let network = network
        .map(|text| value("--network-configuration", text))
        .transpose()?;
    let definition = match arguments.task_definition.as_deref() {
        Some(text) if text.starts_with("file://") => Some(value("--task-definition", text)?),
        text => text.map(Value::from),
    };
    let said = [
        ("taskDefinition", definition),
        ("networkConfiguration", network),
        ("cluster", arguments.cluster.map(Value::from)),
        ("group", arguments.group.map(Value::from)),
        ("clientToken", arguments.client_token.map(Value::from)),
        ("taskId", arguments.task_id.map(Value::from)),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            request[name] = value;
        }
    }
    Ok(request)
}

/// JSON, a file of it, or the AWS CLI's shorthand.
fn value(argument: &'static str, text: &str) -> Result<Value, CommandError> {
    if let Some(path) = text.strip_prefix("file://") {
        return read_json(Path::new(path));
    }
    let parsed = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        shorthand(text)
    };
    parsed.map_err(|problem| CommandError::Input {
        what: "argument",
        name: argument.to_owned(),
        problem,
    })
}

fn read_json(path: &Path) -> Result<Value, CommandError> {
    let (name, bytes) = read_input(path, "request")?;
    serde_json::from_slice(&bytes).map_err(|error| CommandError::Input {
        what: "request",
        name,
        problem: error.to_string(),
    })
}

/// The AWS CLI's shorthand: `a={b=[c,d],e=f}` is `{"a": {"b": ["c", "d"], "e": "f"}}` (AWS CLI user guide, "Using
/// shorthand syntax"). Quoted values are JSON's business.
fn shorthand(text: &str) -> Result<Value, String> {
    let mut rest = text.trim();
    let object = members(&mut rest)?;
    if rest.is_empty() {
        Ok(object)
    } else {
        Err(format!(
            "unexpected {rest:?}; write key=value, {{...}} and [...], or JSON"
        ))
    }
}

fn members(rest: &mut &str) -> Result<Value, String> {
    let mut object = serde_json::Map::new();
    loop {
        let Some((key, after)) = rest.split_once('=') else {
            return Err(format!("{rest:?} has no =; write key=value, or JSON"));
        };
        *rest = after;
        object.insert(key.trim().to_owned(), item(rest)?);
        match rest.strip_prefix(',') {
            Some(after) => *rest = after,
            None => return Ok(Value::Object(object)),
        }
    }
}

fn item(rest: &mut &str) -> Result<Value, String> {
    let close = |rest: &mut &str, end: char| match rest.strip_prefix(end) {
        Some(after) => {
            *rest = after;
            Ok(())
        }
        None => Err(format!("{rest:?} lacks a {end}")),
    };
    if let Some(after) = rest.strip_prefix('{') {
        *rest = after;
        let object = members(rest)?;
        close(rest, '}')?;
        return Ok(object);
    }
    if let Some(after) = rest.strip_prefix('[') {
        *rest = after;
        let mut list = Vec::new();
        while !rest.starts_with(']') && !rest.is_empty() {
            list.push(item(rest)?);
            *rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        close(rest, ']')?;
        return Ok(Value::Array(list));
    }
    let end = rest.find([',', ']', '}']).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    if word.trim().is_empty() {
        return Err(format!("nothing stands before {rest:?}; write a value"));
    }
    *rest = after;
    Ok(Value::from(word.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorthand_is_the_json_that_it_stands_for() {
        let text = "awsvpcConfiguration={subnets=[subnet-a,subnet-b],securityGroups=[sg-1],assignPublicIp=DISABLED}";
        let expected = json!({"awsvpcConfiguration": {
            "subnets": ["subnet-a", "subnet-b"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED",
        }});
        assert_eq!(shorthand(text), Ok(expected));
        assert_eq!(shorthand("a={b=[]}"), Ok(json!({"a": {"b": []}})));
        for wrong in ["", "a", "a={b=[c}", "a={b=c", "a=b}", "a=[b"] {
            assert!(shorthand(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_said_beside_the_file_counts() {
        let arguments = RunTaskArguments {
            cli_input_json: None,
            task_definition: Some("web:7".to_owned()),
            network_configuration: Some(r#"{"awsvpcConfiguration": {"subnets": []}}"#.to_owned()),
            cluster: None,
            group: Some("service:web".to_owned()),
            client_token: None,
            task_id: None,
        };
        let request = run_task(arguments).expect("a request");
        let expected = json!({
            "taskDefinition": "web:7", "group": "service:web",
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": []}},
        });
        assert_eq!(request, expected);
    }
}
