//! Finding and killing the process at the other end of a loopback connection.
//!
//! Linux tells this in two steps: `/proc/net/tcp` has the socket's inode for a pair of ports, and a process that
//! holds the socket has a descriptor in `/proc/{pid}/fd` that links to `socket:[inode]`.

use std::{collections::HashSet, fs, net::SocketAddr};

use rustix::process::{Pid, Signal, kill_process};

use crate::server::Connection;

/// Kills every process that holds the client's end of `connection`, and says which. Never this process, nor one that
/// it descends from.
pub(crate) fn kill_peer(connection: Connection) -> Vec<u32> {
    let Some(inode) = socket_inode(connection.peer, connection.local) else { return Vec::new() };
    let spared = lineage();
    holders(inode)
        .into_iter()
        .filter(|pid| !spared.contains(pid))
        .filter(|pid| {
            let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
        })
        .collect()
}

/// The inode of the socket that is bound to `from` and connected to `to`. On loopback the two ports say it all.
fn socket_inode(from: SocketAddr, to: SocketAddr) -> Option<u64> {
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        fs::read_to_string(table).ok()?.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, _, _, _, _, _, _, inode, ..] = fields[..] else { return None };
            let inode = inode.parse().ok().filter(|inode| *inode != 0)?;
            (port(local) == Some(from.port()) && port(remote) == Some(to.port())).then_some(inode)
        })
    })
}

fn holders(inode: u64) -> Vec<u32> {
    let wanted = format!("socket:[{inode}]");
    let holds = |pid: &u32| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()))
    };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(holds).collect()
}

/// This process and its ancestors.
fn lineage() -> HashSet<u32> {
    let parent = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok().filter(|parent| *parent != 0)
    };
    std::iter::successors(Some(std::process::id()), parent).collect()
}
