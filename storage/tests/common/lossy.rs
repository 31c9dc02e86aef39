//! A line that loses replies.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

/// Listens in front of a server and hangs up instead of passing on the next so many replies.
pub struct LossyLine {
    pub port: u16,
    lose: Arc<AtomicU32>,
}

impl LossyLine {
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let lose = Arc::new(AtomicU32::new(0));
        let shared = Arc::clone(&lose);
        // The threads end with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let lose = Arc::clone(&shared);
                thread::spawn(move || carry(client, server, &lose));
            }
        });
        Self { port, lose }
    }

    pub fn lose_replies(&self, replies: u32) {
        self.lose.store(replies, Ordering::SeqCst);
    }

    /// How many are still to be lost.
    pub fn left(&self) -> u32 {
        self.lose.load(Ordering::SeqCst)
    }
}

fn carry(client: TcpStream, server: u16, lose: &AtomicU32) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
    let (mut up_from, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _broken = std::io::copy(&mut up_from, &mut up_to);
        let _broken = up_to.shutdown(Shutdown::Write);
    });
    let (mut server, mut client) = (server, client);
    let mut buffer = vec![0; 64 << 10];
    while let Ok(got @ 1..) = server.read(&mut buffer) {
        let reply = buffer[..got].starts_with(b"HTTP/1.1 2");
        if reply && lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            break;
        }
        if client.write_all(&buffer[..got]).is_err() {
            break;
        }
    }
    let _gone = client.shutdown(Shutdown::Both);
    let _gone = server.shutdown(Shutdown::Both);
}
