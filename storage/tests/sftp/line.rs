//! A line to the server that breaks or falls silent on command.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

/// Passes everything on, in both directions.
pub struct Line {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    /// Bytes until it breaks.
    until_cut: AtomicI64,
    silent: AtomicBool,
    connections: AtomicU32,
}

impl Line {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = listener.local_addr().unwrap().port();
        let state = State {
            until_cut: AtomicI64::new(i64::MAX),
            silent: AtomicBool::new(false),
            connections: AtomicU32::new(0),
        };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, state) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&shared));
                    thread::spawn(move || pass(from, to, &state));
                }
            }
        });
        Self { port: line, state }
    }

    /// Breaks the connection after so many bytes more, once.
    pub fn cut_after(&self, bytes: i64) {
        self.state.until_cut.store(bytes, Ordering::SeqCst);
    }

    /// Keeps everything back from now on, or passes it on again.
    pub fn silence(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// Those that were ever made.
    pub fn connections(&self) -> u32 {
        self.state.connections.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(got) = from.read(&mut buffer) {
        while state.silent.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        let left = state.until_cut.fetch_sub(got as i64, Ordering::SeqCst);
        if left <= got as i64 {
            state.until_cut.store(i64::MAX, Ordering::SeqCst);
            break;
        }
        if got == 0 || to.write_all(&buffer[..got]).is_err() {
            break;
        }
    }
    // Whichever end is gone already does not mind.
    let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
