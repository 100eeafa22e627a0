//! A connection to a peer: a socket, with TLS around it where the peer port has that.
//!
//! One thread reads and writes; others may only shut the socket down. Reading and writing go
//! through a shared reference, as with a plain socket.
//! Must not know: frames.

use crate::tls::{Port, Side};
use quorate_api::tls::reason::{explain, explain_io, tls_error};
use quorate_api::tls::{HandshakeFailure, Reason};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};
use std::cell::RefCell;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Longest time for a whole handshake.
const HANDSHAKE_MS_MAX: u64 = 5_000;
/// How long a refused caller may take to hear why.
const FAREWELL: Duration = Duration::from_millis(200);
/// Reads of what a refused caller still sends, so that he can hear why.
const FAREWELL_READS_MAX: usize = 8;
/// Encrypted bytes asked from the socket at once: some records.
const READ_BYTES: usize = 64 << 10;
/// Bytes encrypted before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// A connection to a peer.
pub struct PeerStream {
    socket: Arc<TcpStream>,
    /// `None`: plaintext.
    session: Option<RefCell<Session>>,
}

struct Session {
    tls: Connection,
    inbound: BufReader<Socket>,
}

/// A shared socket as a reader.
struct Socket(Arc<TcpStream>);

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buf)
    }
}

impl PeerStream {
    /// A connection without TLS.
    pub(super) fn plain(socket: Arc<TcpStream>) -> Self {
        Self {
            socket,
            session: None,
        }
    }

    /// The answering side of a handshake. Ends within some seconds whatever the caller does.
    ///
    /// # Errors
    /// Why it failed; the caller has been told, and the failure is counted.
    pub(super) fn accept(socket: Arc<TcpStream>, port: &Port) -> Result<Self, HandshakeFailure> {
        let tls = ServerConnection::new(port.server()).map_err(|error| explain(&error))?;
        Self::shake_hands(socket, Connection::Server(tls), port).inspect(|_| {
            port.succeeded(Side::Accept);
        })
    }

    /// The calling side of a handshake with `host`, which the certificate must be made out for.
    ///
    /// # Errors
    /// Why it failed.
    pub(super) fn dial(
        socket: Arc<TcpStream>,
        host: &str,
        port: &Port,
    ) -> Result<Self, HandshakeFailure> {
        let broken = |text: String| HandshakeFailure::new(Reason::Protocol, text);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| broken(format!("{host:?} is neither a DNS name nor an address")))?;
        let config = port
            .client()
            .ok_or_else(|| broken("no CA is trusted on the peer port".to_owned()))?;
        let tls = ClientConnection::new(config, name).map_err(|error| explain(&error))?;
        Self::shake_hands(socket, Connection::Client(tls), port).inspect(|_| {
            port.succeeded(Side::Dial);
        })
    }

    fn shake_hands(
        socket: Arc<TcpStream>,
        mut tls: Connection,
        port: &Port,
    ) -> Result<Self, HandshakeFailure> {
        tls.set_buffer_limit(Some(WRITE_BYTES));
        let mut session = Session {
            tls,
            inbound: BufReader::with_capacity(READ_BYTES, Socket(Arc::clone(&socket))),
        };
        let until_ms = port.now_ms() + HANDSHAKE_MS_MAX;
        while session.tls.is_handshaking() {
            // Every byte that drips in shortens the time for the next.
            let left = Duration::from_millis(until_ms.saturating_sub(port.now_ms()));
            let step = if left.is_zero() {
                Err(io::ErrorKind::TimedOut.into())
            } else {
                socket
                    .set_read_timeout(Some(left))
                    .and_then(|()| socket.set_write_timeout(Some(left)))
                    .and_then(|()| session.step(&socket))
            };
            if let Err(error) = step {
                let failure = explain_io(&error);
                session.say_farewell(&socket);
                return Err(failure);
            }
        }
        session.flush(&socket).map_err(|error| explain_io(&error))?;
        Ok(Self {
            socket,
            session: Some(RefCell::new(session)),
        })
    }

    /// The socket underneath, for its options and for shutting it down.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The socket underneath, to be shut down by another thread.
    pub(super) fn shared_socket(&self) -> Arc<TcpStream> {
        Arc::clone(&self.socket)
    }

    /// Whether bytes must go through this stream: written into the socket they would be garbage.
    pub(super) fn is_secure(&self) -> bool {
        self.session.is_some()
    }
}

impl Session {
    /// Writes what is due, then reads once.
    fn step(&mut self, socket: &TcpStream) -> io::Result<()> {
        self.flush(socket)?;
        if self.tls.is_handshaking() {
            self.receive(socket)?;
        }
        Ok(())
    }

    /// Reads encrypted bytes and decrypts them.
    fn receive(&mut self, socket: &TcpStream) -> io::Result<()> {
        loop {
            match self.tls.read_tls(&mut self.inbound) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = self.tls.process_new_packets() {
            // The alert says why; whether it arrives is another matter.
            let _ = self.flush(socket);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(())
    }

    fn flush(&mut self, mut socket: &TcpStream) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Closing with bytes unread would reset the connection, and the caller might lose the alert.
    fn say_farewell(&mut self, socket: &TcpStream) {
        let _ = self.flush(socket);
        let _ = socket.shutdown(Shutdown::Write);
        if socket.set_read_timeout(Some(FAREWELL)).is_err() {
            return;
        }
        let (mut buffer, mut socket) = ([0; 4096], socket);
        for _ in 0..FAREWELL_READS_MAX {
            if !matches!(socket.read(&mut buffer), Ok(1..)) {
                return;
            }
        }
    }

    fn read(&mut self, socket: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            // Answers to key updates and the like.
            self.flush(socket)?;
            if self.inbound.buffer().is_empty() && self.inbound.fill_buf()?.is_empty() {
                // Frames carry their length: an end that was forged is found there.
                return Ok(0);
            }
            self.receive(socket)?;
        }
    }

    fn write(&mut self, socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let written = self.tls.writer().write(bytes)?;
        self.flush(socket)?;
        Ok(written)
    }
}

impl Read for &PeerStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.session {
            None => (&*self.socket).read(buf),
            Some(session) => session.borrow_mut().read(&self.socket, buf),
        }
    }
}

impl Write for &PeerStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.session {
            None => (&*self.socket).write(bytes),
            Some(session) => session.borrow_mut().write(&self.socket, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.session {
            None => Ok(()),
            Some(session) => session.borrow_mut().flush(&self.socket),
        }
    }
}

/// What an error of the connection tells about TLS, when it tells anything.
pub(super) fn failure_within(error: &io::Error) -> Option<HandshakeFailure> {
    tls_error(error).map(explain)
}
