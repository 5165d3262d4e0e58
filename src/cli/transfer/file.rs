//! Where an export goes, and where an import comes from.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::line::Line;
use crate::{
    cli::output::{Failure, talk},
    domain::Timestamp,
};

/// A message has at most a few times the bytes of the largest body that a server may take.
const MAX_LINE: u64 = 256 * 1024 * 1024;

/// What is written to.
pub(super) struct Output {
    to: BufWriter<Box<dyn Write>>,
    /// A file, which is synced at the end.
    file: Option<(File, PathBuf)>,
    /// Where an interrupted export goes on.
    pub(super) place: Option<String>,
    /// So many messages are in it.
    pub(super) messages: u64,
    is_complete: bool,
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self { to: BufWriter::new(Box::new(io::stdout())), file: None, place: None, messages: 0, is_complete: false }
    }

    /// A new file, for its owner alone.
    pub(super) fn create(path: PathBuf) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                Failure::Usage(format!("{} exists; go on with it by --resume, or name another file", path.display()))
            } else {
                Failure::Failed(format!("cannot make {}: {error}", path.display()))
            }
        })?;
        Self::to_file(file, path)
    }

    /// The file of an interrupted export: what comes after its last whole page is cut off.
    pub(super) fn resume(path: PathBuf) -> Result<Self, Failure> {
        let cannot = |error: io::Error| Failure::Failed(format!("cannot go on with {}: {error}", path.display()));
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(cannot)?;
        let mut input = Input { name: path.display().to_string(), from: Box::new(BufReader::new(&file)), number: 0 };
        let (mut read, mut whole, mut messages, mut place, mut kept) = (0, 0, 0, None, 0);
        let mut has_head = false;
        while let Some(line) = input.line()? {
            read += line.len() as u64;
            if !line.ends_with(b"\n") {
                break;
            }
            match Line::parse(&line) {
                Ok(Line::Head) => has_head = true,
                Ok(Line::Key(_)) => {}
                Ok(Line::Message(_)) => messages += 1,
                Ok(Line::Place(text)) => (whole, kept, place) = (read, messages, Some(text)),
                Ok(Line::End { messages }) => {
                    let output = Self::to_file(file.try_clone().map_err(cannot)?, path)?;
                    return Ok(Self { is_complete: true, messages, ..output });
                }
                Err(wrong) => return Err(input.wrong(&wrong)),
            }
            if !has_head {
                return Err(input.wrong("is not the head of an export"));
            }
        }
        drop(input);
        file.set_len(whole).and_then(|()| (&file).seek(io::SeekFrom::Start(whole))).map_err(cannot)?;
        Ok(Self { place, messages: kept, ..Self::to_file(file, path)? })
    }

    fn to_file(file: File, path: PathBuf) -> Result<Self, Failure> {
        let to =
            file.try_clone().map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))?;
        Ok(Self { to: BufWriter::new(Box::new(to)), file: Some((file, path)), ..Self::stdout() })
    }

    /// Whether nothing is left to do.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Says so.
    pub(super) fn say_complete(self) -> Result<(), Failure> {
        talk(&format!("The export is whole already: {} messages.", self.messages));
        Ok(())
    }

    /// Whether `--resume` can go on with it.
    pub(super) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Writes a line; it is out after [`Output::flush`].
    pub(super) fn write(&mut self, line: &Line, now: Timestamp) -> Result<(), Failure> {
        let text = line.to_text(now).map_err(Failure::of)?;
        self.to.write_all(text.as_bytes()).map_err(|error| self.cannot_write(&error))
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush().map_err(|error| self.cannot_write(&error))
    }

    /// Makes sure that it outlives a power failure, where it is a file.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.flush()?;
        match &self.file {
            None => Ok(()),
            Some((file, _)) => file.sync_all().map_err(|error| self.cannot_write(&error)),
        }
    }

    fn cannot_write(&self, error: &io::Error) -> Failure {
        let name = self.file.as_ref().map_or_else(|| "stdout".to_owned(), |(_, path)| path.display().to_string());
        Failure::Failed(format!("cannot write to {name}: {error}"))
    }
}

/// What is read from, line by line.
pub(super) struct Input<'a> {
    name: String,
    from: Box<dyn BufRead + 'a>,
    number: u64,
}

impl Input<'_> {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { name: "stdin".into(), from: Box::new(BufReader::new(io::stdin())), number: 0 });
        }
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Failure::Failed(format!("cannot open {name}: {error}")))?;
        Ok(Self { name, from: Box::new(BufReader::new(file)), number: 0 })
    }

    /// The next line with its end, which the last may lack; `None` after it.
    pub(super) fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        self.number += 1;
        let read = (&mut self.from).take(MAX_LINE).read_until(b'\n', &mut line);
        match read {
            Ok(0) => Ok(None),
            Ok(_) if line.len() as u64 == MAX_LINE => Err(self.wrong("is longer than any message")),
            Ok(_) => Ok(Some(line)),
            Err(error) => Err(self.wrong(&format!("cannot be read: {error}"))),
        }
    }

    /// The number of the line that was read last, from 1 on.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// What is wrong with the line that was read last.
    pub(super) fn wrong(&self, what: &str) -> Failure {
        self.wrong_at(self.number, what)
    }

    /// What is wrong with a line.
    pub(super) fn wrong_at(&self, number: u64, what: &str) -> Failure {
        Failure::Failed(format!("{}: line {number} {what}", self.name))
    }

    /// What is wrong with the whole.
    pub(super) fn wrong_whole(&self, what: &str) -> Failure {
        Failure::Failed(format!("{}: {what}", self.name))
    }
}
