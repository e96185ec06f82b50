//! An HTTP/1.1 peer behind the gateway: a backend that takes posts, and a proxy that opens tunnels. It remembers every
//! head that it was sent.

use super::{PATIENCE, wait_for};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The request line.
    pub line: String,
    /// Names in small letters, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    /// The value of a header that came once; `None` if it did not come.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = found.next();
        assert_eq!(found.next(), None, "{name} came twice: {self:?}");
        value
    }
}

/// See the module. Its threads end with the process of the test.
#[derive(Debug)]
pub struct HttpPeer {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    held: Arc<(Mutex<bool>, Condvar)>,
}

/// Whole answers to posts, in order.
type Answers = Arc<Mutex<VecDeque<String>>>;

impl HttpPeer {
    /// Answers every post with 200; tunnels lead to `behind`, wherever they are asked for, or are refused with 403.
    pub fn start(behind: Option<SocketAddr>) -> HttpPeer {
        HttpPeer::start_with(behind, &[])
    }

    /// Answers the first posts with these status lines (and headers, if lines of them follow), and every other with 200.
    pub fn answering(heads: &[&str]) -> HttpPeer {
        HttpPeer::start_with(None, heads)
    }

    fn start_with(behind: Option<SocketAddr>, heads: &[&str]) -> HttpPeer {
        let whole = |head: &&str| format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n");
        let answers: Answers = Arc::new(Mutex::new(heads.iter().map(whole).collect()));
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let keeper = Arc::clone(&asked);
        let held = Arc::new((Mutex::new(false), Condvar::new()));
        let gate = Arc::clone(&held);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, answers, gate) = (Arc::clone(&keeper), Arc::clone(&answers), Arc::clone(&gate));
                std::thread::spawn(move || drop(serve(stream, behind, &asked, &answers, &gate)));
            }
        });
        HttpPeer { address, asked, held }
    }

    /// From now on requests are left without an answer, until they are not.
    pub fn hold(&self, is_held: bool) {
        *self.held.0.lock().expect("nobody panics with it") = is_held;
        self.held.1.notify_all();
    }

    /// All requests so far, tunnels included.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panics with it").clone()
    }

    /// Waits until so many requests have come.
    pub fn wait_for(&self, requests: usize) -> Vec<Asked> {
        wait_for("requests at the HTTP peer", || Some(self.asked()).filter(|asked| asked.len() >= requests))
    }
}

fn serve(
    stream: TcpStream,
    behind: Option<SocketAddr>,
    asked: &Mutex<Vec<Asked>>,
    answers: &Mutex<VecDeque<String>>,
    (held, released): &(Mutex<bool>, Condvar),
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            stream.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Asked { line: line.trim_end().to_owned(), headers, body: Vec::new() };
        let is_tunnel = request.line.starts_with("CONNECT ");
        let length = request.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        request.body.resize(length, 0);
        stream.read_exact(&mut request.body)?;
        let locked = held.lock().expect("nobody panics with it");
        drop(released.wait_while(locked, |held| *held).expect("nobody panics with it"));
        asked.lock().expect("nobody panics with it").push(request);
        match (is_tunnel, behind) {
            (false, _) => {
                let usual = || {
                    "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n".to_owned()
                };
                let answer = answers.lock().expect("nobody panics with it").pop_front().unwrap_or_else(usual);
                stream.get_mut().write_all(answer.as_bytes())?;
            }
            (true, None) => return stream.get_mut().write_all(b"HTTP/1.1 403 Not here\r\ncontent-length: 0\r\n\r\n"),
            (true, Some(behind)) => {
                stream.get_mut().write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                return tunnel(stream.into_inner(), TcpStream::connect(behind)?);
            }
        }
    }
}

/// Moves bytes both ways until one side ends.
fn tunnel(mut near: TcpStream, mut far: TcpStream) -> std::io::Result<()> {
    let (mut to_near, mut from_far) = (near.try_clone()?, far.try_clone()?);
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from_far, &mut to_near));
        drop(to_near.shutdown(std::net::Shutdown::Both));
    });
    std::io::copy(&mut near, &mut far)?;
    far.shutdown(std::net::Shutdown::Both)
}
