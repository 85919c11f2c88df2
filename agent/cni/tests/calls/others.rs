//! DEL, CHECK, GC, STATUS and VERSION, and the id by which they find what ADD made.

use branchline_cni::api::{Answer, Request};
use branchline_cni::http::TalkError;
use branchline_cni::run::run;
use branchline_cni::task;
use serde_json::{Value, json};

use super::*;

#[test]
fn del_succeeds_with_nothing_there_and_fails_without_the_agent() {
    let id = task::id("pods", CONTAINER, "eth0");
    let broken = json!({"subnets": 7, "nonsense": true, "prevResult": {}});
    let environments = [
        variables("DEL", &[]),
        variables("DEL", &[("CNI_NETNS", "")]),
    ];
    for environment in &environments {
        for said in [
            says(204, &Value::Null),
            refuses(404, "NotFound", "there is no task", None),
        ] {
            let agent = Fake::saying([said]);
            let outcome = run(environment, &configuration("0.4.0", &broken), &agent);
            assert_eq!((outcome.is_success, outcome.output.as_str()), (true, ""));
            assert_eq!(agent.requests(), [Request::remove(&id)]);
        }
    }
    let agent = Fake::saying([refused_connection()]);
    let outcome = run(
        &environments[0],
        &configuration("0.4.0", &json!({})),
        &agent,
    );
    assert_eq!(failed(&outcome).0, 11);
    let agent = Fake::saying([refuses(500, "Internal", "delete link", None)]);
    let outcome = run(
        &environments[0],
        &configuration("0.4.0", &json!({})),
        &agent,
    );
    assert_eq!(failed(&outcome).0, 100);
}

#[test]
fn check_compares_what_the_agent_finds_and_what_add_answered() {
    let agent = Fake::saying([says(201, &both())]);
    let added = printed(&run(
        &variables("ADD", &[]),
        &configuration("1.0.0", &json!({})),
        &agent,
    ));
    let check = |previous: &Value, said: Result<Answer, TalkError>| {
        let changes = json!({"prevResult": previous});
        run(
            &variables("CHECK", &[]),
            &configuration("1.0.0", &changes),
            &Fake::saying([said]),
        )
    };
    let sound = || says(200, &json!({"task": both(), "differences": []}));
    let outcome = check(&added, sound());
    assert_eq!((outcome.is_success, outcome.output.as_str()), (true, ""));
    let mut more = added.clone();
    more["ips"]
        .as_array_mut()
        .unwrap()
        .push(json!({"address": "10.9.9.9/32"}));
    more["interfaces"][1]["mac"] = json!("0A:00:00:00:00:01");
    assert!(check(&more, sound()).is_success);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut previous = added.clone();
        change(&mut previous);
        failed(&check(&previous, sound()))
    };
    let rows = [
        (
            changed(&|previous| previous["interfaces"][1]["mac"] = json!("02:00:00:00:00:01")),
            "MAC address",
        ),
        (
            changed(&|previous| previous["interfaces"][1]["sandbox"] = json!("/other")),
            "prevResult.interfaces: has no eth0",
        ),
        (
            changed(&|previous| previous["ips"][0]["address"] = json!("10.0.1.5/24")),
            "prevResult.ips: has no 10.0.1.4/24",
        ),
    ];
    for ((code, message), text) in rows {
        assert!(code == 102 && message.contains(text), "{code} {message}");
    }
    let difference = json!([{"what": "MTU of eth0", "expected": "9001", "found": "1500"}]);
    let spoilt = says(200, &json!({"task": both(), "differences": difference}));
    let (code, message) = failed(&check(&added, spoilt));
    assert!(
        code == 102 && message.contains("MTU of eth0: expected 9001, found 1500"),
        "{message}"
    );
    assert_eq!(
        failed(&check(&added, refuses(404, "NotFound", "no task", None))).0,
        3
    );
    assert_eq!(failed(&check(&added, refused_connection())).0, 11);
    assert_eq!(failed(&check(&Value::Null, sound())).0, 7);
    let old = run(
        &variables("CHECK", &[]),
        &configuration("0.3.1", &json!({"prevResult": {}})),
        &Fake::default(),
    );
    assert_eq!(failed(&old).0, 1);
}

#[test]
fn gc_lists_what_stays_and_never_takes_silence_for_nothing() {
    let stays = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let listed = Request::collect_garbage(
        "pods",
        &[branchline_cni::configuration::ValidAttachment {
            container_id: "c1".to_owned(),
            ifname: "eth0".to_owned(),
        }],
    );
    let body = listed.body.clone().unwrap().to_string();
    let read: branchline::cni_attachment::CniGarbageCollection =
        serde_json::from_str(&body).unwrap();
    assert_eq!(read.valid_attachments.len(), 1);
    let none = Request::collect_garbage("pods", &[]);
    let rows = [
        (json!({"cni.dev/valid-attachments": stays}), &listed),
        (json!({"cni.dev/attachments": stays}), &listed),
        (json!({"cni.dev/valid-attachments": null}), &none),
        (json!({"cni.dev/valid-attachments": []}), &none),
    ];
    // GC has no attachment.
    let bare = [
        ("CNI_CONTAINERID", ""),
        ("CNI_NETNS", ""),
        ("CNI_IFNAME", ""),
    ];
    for (changes, expected) in rows {
        let agent = Fake::saying([says(200, &json!({"removed": []}))]);
        let outcome = run(
            &variables("GC", &bare),
            &configuration("1.1.0", &changes),
            &agent,
        );
        assert_eq!((outcome.is_success, outcome.output.as_str()), (true, ""));
        assert_eq!(agent.requests(), std::slice::from_ref(expected));
    }
    let gc = |version: &str, changes: &Value, says: Vec<Result<Answer, TalkError>>| {
        failed(&run(
            &variables("GC", &bare),
            &configuration(version, changes),
            &Fake::saying(says),
        ))
        .0
    };
    assert_eq!(gc("1.1.0", &json!({}), vec![]), 7);
    assert_eq!(
        gc(
            "1.1.0",
            &json!({"cni.dev/valid-attachments": [{"ifname": "eth0"}]}),
            vec![]
        ),
        6
    );
    let empty = json!({"cni.dev/valid-attachments": []});
    assert_eq!(gc("1.0.0", &empty, vec![]), 1);
    assert_eq!(gc("1.1.0", &empty, vec![refused_connection()]), 11);
    assert_eq!(
        gc(
            "1.1.0",
            &empty,
            vec![refuses(500, "Internal", "task t: veth", None)]
        ),
        100
    );
}

#[test]
fn status_tells_no_room_from_no_connectivity() {
    let sound = || says(200, &json!({"problems": []}));
    let problem = says(200, &json!({"problems": ["the trunk bl-trunk is down"]}));
    let status = |changes: &Value, says: Vec<Result<Answer, TalkError>>| {
        let bare = [
            ("CNI_CONTAINERID", ""),
            ("CNI_NETNS", ""),
            ("CNI_IFNAME", ""),
        ];
        let agent = Fake::saying(says);
        let outcome = run(
            &variables("STATUS", &bare),
            &configuration("1.1.0", changes),
            &agent,
        );
        (outcome, agent.requests())
    };
    let (outcome, requests) = status(&json!({}), vec![sound(), says(204, &Value::Null)]);
    assert_eq!((outcome.is_success, outcome.output.as_str()), (true, ""));
    assert_eq!(requests[1].path, "/v1/dry-run/tasks");
    let spec = requests[1].body.clone().unwrap().to_string();
    branchline::spec::TaskSpec::parse(spec.as_bytes()).unwrap();
    let by_annotation = json!({"subnets": null});
    assert!(status(&by_annotation, vec![sound()]).0.is_success);
    let full = refuses(503, "Exhausted", "no free address in subnet-a", None);
    let rows = [
        (vec![refused_connection()], 50, "socket"),
        (vec![sound(), full], 50, "no free address"),
        (vec![problem], 51, "the trunk bl-trunk is down"),
    ];
    for (says, code, text) in rows {
        let (found, message) = failed(&status(&json!({}), says).0);
        assert!(found == code && message.contains(text), "{found} {message}");
    }
    assert_eq!(
        failed(&status(&json!({"ipam": {"type": "x"}}), vec![]).0).0,
        2
    );
    let old = run(
        &variables("STATUS", &[]),
        &configuration("1.0.0", &json!({})),
        &Fake::default(),
    );
    assert_eq!(failed(&old).0, 1);
}

#[test]
fn version_is_answered_whatever_is_asked_with() {
    let all = json!([
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"
    ]);
    for (input, version) in [
        (r#"{"cniVersion": "0.4.0"}"#, "0.4.0"),
        (r#"{"cniVersion": "9.9.9"}"#, "1.1.0"),
        ("", "1.1.0"),
    ] {
        let outcome = run(
            &variables("VERSION", &[]),
            input.as_bytes(),
            &Fake::default(),
        );
        let expected = json!({"cniVersion": version, "supportedVersions": all});
        assert_eq!(
            (outcome.is_success, printed(&outcome)),
            (true, expected),
            "{input}"
        );
    }
}

#[test]
fn task_ids_are_readable_valid_and_never_the_same() {
    let rows = [
        ("pods", CONTAINER, "eth0"),
        ("pods", CONTAINER, "eth1"),
        ("podman", CONTAINER, "eth0"),
        ("pods", "a.b", "eth0"),
        ("pods", "a_b", "eth0"),
        ("pod", "sa.b", "eth0"),
        ("pods", "a", "b.c"),
        ("pods", "a", "b_c"),
    ];
    let ids: Vec<String> = rows
        .iter()
        .map(|(network, container, link)| task::id(network, container, link))
        .collect();
    for (index, id) in ids.iter().enumerate() {
        assert!(
            branchline::spec::TaskId::try_from(id.clone()).is_ok(),
            "{id}"
        );
        assert!(!ids[..index].contains(id), "{id}");
    }
    assert!(ids[0].starts_with("3f2a9c5d7e8b-eth0-"), "{}", ids[0]);
    let long = task::id(&"n".repeat(300), &"c".repeat(300), "abcdefghijklmno");
    assert!(branchline::spec::TaskId::try_from(long).is_ok());
    // Attachments outlive an upgrade of the plugin.
    assert_eq!(
        task::id("pods", "a.b", "eth0"),
        "a_b-eth0-2e432a80df41e4451840c0418962ca56"
    );
}
