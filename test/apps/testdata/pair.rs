// Server and client of Rust's std::net in one program: pair server|client FILE
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use std::{env, fs, io, thread};

fn serve(l: TcpListener) -> io::Result<()> {
    for c in l.incoming() {
        let mut c = c?;
        thread::spawn(move || -> io::Result<()> {
            c.set_nodelay(true)?;
            let mut r = c.try_clone()?;
            io::copy(&mut r, &mut c)?; // splices on Linux
            c.shutdown(Shutdown::Write)
        });
    }
    Ok(())
}

fn echo(to: SocketAddr, data: Vec<u8>) -> io::Result<()> {
    let mut c = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    assert_eq!(c.peer_addr()?, to);
    c.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut w = c.try_clone()?;
    let sent = data.clone();
    let t = thread::spawn(move || -> io::Result<()> {
        w.write_all(&sent)?;
        w.shutdown(Shutdown::Write)
    });
    let mut first = [0u8; 16];
    let n = c.peek(&mut first)?;
    assert_eq!(first[..n], data[..n]);
    let mut got = Vec::new();
    c.read_to_end(&mut got)?;
    t.join().unwrap()?;
    assert!(got == data, "echo of {} bytes came back as {}", data.len(), got.len());
    Ok(())
}

fn client(data: Vec<u8>) -> io::Result<()> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 9100));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 9101));
    let ts: Vec<_> = (0..16usize)
        .map(|i| {
            let part = data[i * 1000..data.len() - i * 500].to_vec();
            thread::spawn(move || echo(if i % 2 == 0 { v4 } else { v6 }, part))
        })
        .collect();
    for t in ts {
        t.join().unwrap()?;
    }
    println!("tcp ok");

    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, 1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let l = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    l.set_nonblocking(true)?;
    assert_eq!(l.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(TcpListener::bind(l.local_addr()?).unwrap_err().kind(), ErrorKind::AddrInUse);
    let mut c = TcpStream::connect(l.local_addr()?)?;
    c.set_read_timeout(Some(Duration::from_millis(100)))?;
    assert_eq!(c.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    c.set_ttl(77)?;
    assert_eq!(c.ttl()?, 77);
    println!("errors ok");

    let a = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let b = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    a.set_read_timeout(Some(Duration::from_secs(5)))?;
    for i in 0..30 {
        b.send_to(&data[..i * 100], a.local_addr()?)?;
        let mut buf = [0u8; 4000];
        let (n, from) = a.peek_from(&mut buf)?;
        assert_eq!((n, from), (i * 100, b.local_addr()?));
        let (n, from) = a.recv_from(&mut buf)?;
        assert_eq!((n, from), (i * 100, b.local_addr()?));
        assert!(buf[..n] == data[..n]);
    }
    b.connect(a.local_addr()?)?;
    a.connect(b.local_addr()?)?;
    a.send(b"connected")?;
    let mut buf = [0u8; 20];
    let n = b.recv(&mut buf)?;
    assert_eq!(&buf[..n], b"connected");
    println!("udp ok");
    Ok(())
}

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().collect();
    if args[1] == "server" {
        let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 9101))?;
        thread::spawn(move || serve(six));
        return serve(TcpListener::bind((Ipv4Addr::LOCALHOST, 9100))?);
    }
    client(fs::read(&args[2])?)
}
