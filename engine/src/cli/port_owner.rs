//! Whose a taken port is: the listening socket's inode from `/proc/net/tcp` and `tcp6`, then the process that has it open.
//!
//! Parsers are pure; [`find`] is the one place that reads. It sees other users' processes only as root, so "somebody" is
//! an ordinary answer.

use std::fs;
use std::net::SocketAddr;

/// Processes looked through at most, and open files of each.
const PROCESSES_MAX: usize = 65_536;
const FILES_MAX: usize = 65_536;

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    /// Its process id.
    pub pid: u32,
    /// Its command line, shortened; its name if that is empty.
    pub command: String,
}

/// Who listens on `address`; `None` if it cannot be seen. Meant for an error message, not for a decision: processes
/// come and go while this looks.
pub fn find(address: SocketAddr) -> Option<PortOwner> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes = tables.iter().flat_map(|table| listening_inodes(table, address.port()));
    let links: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut holders = pids.filter(|pid| holds_any(*pid, &links));
    holders.next().map(|pid| PortOwner { pid, command: command_of(pid) })
}

fn holds_any(pid: u32, links: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = files.flatten().take(FILES_MAX).filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
}

fn command_of(pid: u32) -> String {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    shown_command(&command_line, &name)
}

/// Inodes of sockets that listen on `port`, from the text of `/proc/net/tcp` or `tcp6` (proc_pid_net(5)).
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let listens = u16::from_str_radix(local_port, 16) == Ok(port) && fields.get(3) == Some(&LISTEN);
        let inode = fields.get(9)?.parse().ok()?;
        (listens && inode != 0).then_some(inode)
    };
    table.lines().skip(1).filter_map(inode).collect()
}

/// A command line (arguments end with a zero byte) as one short line without control characters.
fn shown_command(command_line: &[u8], name: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let text = String::from_utf8_lossy(command_line).replace('\0', " ");
    let text = if text.trim().is_empty() { name } else { &text };
    let clean: String =
        text.trim().chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    match clean.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &clean[..end]),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:10DD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:10DD 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 20 4 30 10 -1
   2: 00000000:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
";
    const TABLE6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:10DD 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1 0 100 0 0 10 0
";

    #[test]
    fn only_sockets_that_listen_on_the_port_are_found() {
        assert_eq!(listening_inodes(TABLE, 4317), [111]);
        assert_eq!(listening_inodes(TABLE, 8888), [333]);
        assert_eq!(listening_inodes(TABLE6, 4317), [444]);
        assert!(listening_inodes(TABLE, 4318).is_empty());
    }

    #[test]
    fn a_table_cut_anywhere_is_read_without_a_panic() {
        for end in 0..TABLE.len() {
            let _ = listening_inodes(&TABLE[..end], 4317);
        }
    }

    #[test]
    fn a_command_is_one_short_line_without_control_characters() {
        assert_eq!(shown_command(b"otelcol\0--config\0a.yaml\0", "otelcol"), "otelcol --config a.yaml");
        assert_eq!(shown_command(b"", "kworker\n"), "kworker");
        assert_eq!(shown_command(b"evil\x1b[2J\0", ""), "evil [2J");
        assert_eq!(shown_command("é".repeat(200).as_bytes(), "").chars().count(), 83);
    }

    #[test]
    fn a_port_this_process_listens_on_is_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = find(listener.local_addr().unwrap()).expect("a process sees its own sockets");
        assert_eq!(owner.pid, std::process::id());
        assert!(!owner.command.is_empty());
    }
}
