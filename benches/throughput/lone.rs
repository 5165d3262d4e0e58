//! A lone request, beside one write and fdatasync of the same disk.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Options, fresh,
    load::{Answer, Target, Template},
    report::{Report, median},
    server::Service,
};

const REQUESTS: usize = 2_000;
/// Both in turn: the disk has good and bad moments.
const BLOCKS: usize = 10;

pub fn measure(options: &Options, report: &mut Report) {
    let dir = fresh(options, "lone");
    let service = Service::start(&dir);
    let mut disk = Syncs::new(&dir.with_file_name("lone-sync"), REQUESTS);
    let (mut requests, mut syncs) = (Vec::new(), Vec::new());
    let mut lone = Lone::connect(service.target());
    for _ in 0..BLOCKS {
        for _ in 0..REQUESTS / BLOCKS {
            requests.push(lone.submit().as_secs_f64() * 1e3);
        }
        for _ in 0..REQUESTS / BLOCKS {
            syncs.push(disk.write_and_sync().as_secs_f64() * 1e3);
        }
    }
    let (request, sync) = (median(&requests), median(&syncs));
    report.line(
        "lone request over one write and fdatasync",
        format!("{:.3} ms ({request:.3} ms, of which {sync:.3} ms; must 0.3, aim 0.15)", request - sync),
    );
}

/// A file whose blocks exist already: the sync after a write to it has no metadata to write and is as quick as syncs get.
pub struct Syncs {
    file: File,
    left: usize,
    blocks: usize,
}

impl Syncs {
    pub fn new(path: &Path, blocks: usize) -> Self {
        let mut file = File::create(path).expect("writable directory");
        file.write_all(&vec![0; blocks * 4096]).expect("room on the disk");
        file.sync_all().expect("a disk that syncs");
        Self { file, left: 0, blocks }
    }

    pub fn write_and_sync(&mut self) -> Duration {
        if self.left == 0 {
            self.file.rewind().expect("a file");
            self.left = self.blocks;
        }
        self.left -= 1;
        let begun = Instant::now();
        self.file.write_all(&[0x5a; 4096]).expect("room on the disk");
        self.file.sync_data().expect("a disk that syncs");
        begun.elapsed()
    }
}

/// One client alone, that waits for each answer before it asks again.
pub struct Lone {
    stream: TcpStream,
    template: Template,
    sent: u64,
}

impl Lone {
    pub fn connect(target: &Target) -> Self {
        let stream = TcpStream::connect(target.addr).expect("a server that listens");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, template: Template::new(target, "lone"), sent: 0 }
    }

    /// The time from request to answer.
    pub fn submit(&mut self) -> Duration {
        let request = self.template.request(self.sent);
        self.sent += 1;
        let begun = Instant::now();
        self.stream.write_all(request).expect("an open connection");
        let mut bytes = Vec::new();
        let mut buffer = [0_u8; 4096];
        loop {
            let read = self.stream.read(&mut buffer).expect("an open connection");
            assert_ne!(read, 0, "the server closed the connection");
            bytes.extend_from_slice(&buffer[..read]);
            if let Some(answer) = Answer::parse(&bytes) {
                assert!(answer.ok && !answer.duplicate, "an answer other than accepted");
                return begun.elapsed();
            }
        }
    }
}
