//! Tests of `task_files`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;

use super::*;
use crate::task_record::tests::record;
use crate::test_dir::TestDir;

fn dns() -> TaskDns {
    TaskDns {
        has_resolver: true,
        host_name: Some("ip-10-0-1-10.ec2.internal".to_owned()),
        name_servers: vec![
            "10.0.0.2".parse().unwrap(),
            "fd00:ec2::253".parse().unwrap(),
        ],
        search: vec!["ec2.internal".to_owned(), "corp.example".to_owned()],
        ntp_servers: Vec::new(),
    }
}

fn folders(dir: &TestDir) -> Folders {
    Folders {
        netns: dir.path().join("netns"),
        etc_netns: dir.path().join("etc"),
        tasks: dir.path().join("tasks"),
    }
}

fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        found.extend(files_below(&path));
        found.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    found.sort();
    found
}

#[test]
fn hosts_have_ipv6_only_where_there_is_nothing_else() {
    let mut eni = record("web").eni;
    let files = TaskFiles::of(&dns(), &eni);
    let loopback = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
    assert_eq!(
        files.hosts,
        format!("{loopback}10.0.1.10 ip-10-0-1-10.ec2.internal ip-10-0-1-10\n")
    );
    assert_eq!(
        files.resolv_conf,
        "search ec2.internal corp.example\nnameserver 10.0.0.2\nnameserver fd00:ec2::253\n"
    );
    assert_eq!(
        files.host_name.as_deref(),
        Some("ip-10-0-1-10.ec2.internal\n")
    );
    eni.ipv4 = None;
    let ipv6 = eni.ipv6.unwrap().addr();
    let files = TaskFiles::of(&dns(), &eni);
    assert!(
        files.hosts.contains(&format!("\n{ipv6} ip-10-0-1-10.ec2")),
        "{}",
        files.hosts
    );
    let nameless = TaskFiles::of(&TaskDns::default(), &eni);
    assert_eq!(
        (nameless.hosts.as_str(), nameless.host_name),
        (loopback, None)
    );
    assert_eq!(nameless.resolv_conf, "");
}

#[test]
fn files_are_written_again_and_removed_with_nothing_left() {
    let dir = TestDir::new();
    let folders = folders(&dir);
    let netns = folders.netns.join("branchline-web");
    let places = FilePlaces::choose(&folders, "web", &netns, true);
    let files = TaskFiles::of(&dns(), &record("web").eni);
    places.write(&files).unwrap();
    let changed = TaskFiles {
        hosts: "other\n".to_owned(),
        ..files
    };
    places.write(&changed).unwrap();
    for folder in [
        folders.tasks.join("web"),
        folders.etc_netns.join("branchline-web"),
    ] {
        assert_eq!(fs::read_to_string(folder.join("hosts")).unwrap(), "other\n");
        assert_eq!(files_below(&folder), ["hostname", "hosts", "resolv.conf"]);
    }
    places.remove().unwrap();
    places.remove().unwrap();
    assert_eq!(files_below(dir.path()), ["etc", "tasks"]);
}

#[test]
fn files_that_differ_are_named() {
    let dir = TestDir::new();
    let folders = folders(&dir);
    let netns = folders.netns.join("branchline-web");
    let places = FilePlaces::choose(&folders, "web", &netns, true);
    let files = TaskFiles::of(&dns(), &record("web").eni);
    places.write(&files).unwrap();
    assert_eq!(places.different(&files), []);
    let of_netns = places.netns.clone().unwrap();
    fs::remove_file(places.hosts()).unwrap();
    fs::write(of_netns.join("resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
    fs::remove_file(of_netns.join("hostname")).unwrap();
    fs::create_dir(of_netns.join("hostname")).unwrap();
    let (mut found, expected) = (
        places.different(&files),
        [
            (places.hosts(), "none".to_owned()),
            (of_netns.join("resolv.conf"), "another text".to_owned()),
        ],
    );
    let folder = found
        .iter()
        .position(|(path, _)| path.ends_with("hostname"));
    let (_, reason) = found.remove(folder.unwrap());
    assert!(reason.contains("directory"), "{reason}");
    assert_eq!(found, expected);
    // A task without a name has no such file, and misses none.
    let nameless = TaskFiles {
        host_name: None,
        ..files
    };
    let found = places.different(&nameless);
    assert!(!found.iter().any(|(path, _)| path.ends_with("hostname")));
}

#[test]
fn somebody_elses_folder_stays_theirs() {
    let dir = TestDir::new();
    let folders = folders(&dir);
    let theirs = folders.etc_netns.join("mine");
    let netns = folders.netns.join("mine");
    let free = FilePlaces::choose(&folders, "web", &netns, false);
    assert_eq!(free.netns.as_deref(), Some(theirs.as_path()));
    fs::create_dir_all(&theirs).unwrap();
    fs::write(theirs.join("resolv.conf"), "theirs").unwrap();
    let places = FilePlaces::choose(&folders, "web", &netns, false);
    assert_eq!(places.netns, None);
    let nameless = FilePlaces::choose(&folders, "web", Path::new("/proc/1/ns/net"), false);
    assert_eq!(nameless.netns, None);
    // Even if they put something into a folder of ours.
    let own = FilePlaces::choose(&folders, "web", &folders.netns.join("branchline-web"), true);
    own.write(&TaskFiles::of(&dns(), &record("web").eni))
        .unwrap();
    fs::write(own.netns.as_ref().unwrap().join("nsswitch.conf"), "theirs").unwrap();
    own.remove().unwrap();
    assert_eq!(
        files_below(&folders.etc_netns),
        ["branchline-web", "mine", "nsswitch.conf", "resolv.conf"]
    );
}

#[test]
fn strays_are_removed_and_what_is_used_or_theirs_stays() {
    let dir = TestDir::new();
    let folders = folders(&dir);
    let place = |id: &str| {
        let netns = folders.netns.join(format!("branchline-{id}"));
        FilePlaces::choose(&folders, id, &netns, true)
    };
    let files = TaskFiles::of(&dns(), &record("web").eni);
    let (used, stray) = (place("used"), place("stray"));
    used.write(&files).unwrap();
    stray.write(&files).unwrap();
    fs::create_dir_all(folders.etc_netns.join("theirs")).unwrap();
    folders.remove_strays(&[&used]).unwrap();
    assert!(!stray.run.exists() && !stray.netns.unwrap().exists());
    assert!(used.resolv_conf().exists() && folders.etc_netns.join("theirs").exists());
}
