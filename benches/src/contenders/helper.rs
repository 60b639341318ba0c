//! A contender in a process of its own: asked for a number of samples, it answers one line of them.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A helper process. It ends when this is dropped.
#[derive(Debug)]
pub struct Helper {
    process: Child,
    // Taken by `drop`, which tells the helper to end.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// The system's reason; most often the program isn't there.
    pub fn start(
        program: impl AsRef<OsStr>,
        words: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<Self> {
        Self::spawn(Command::new(program).args(words))
    }

    /// Starts one whose standard error goes nowhere.
    ///
    /// # Errors
    ///
    /// As for [`Helper::start`].
    pub fn start_quietly(
        program: impl AsRef<OsStr>,
        words: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<Self> {
        Self::spawn(Command::new(program).args(words).stderr(Stdio::null()))
    }

    fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        Ok(Self { process, questions, answers })
    }

    /// Takes that many samples, in nanoseconds.
    ///
    /// # Errors
    ///
    /// When the helper has ended or answers something else.
    pub fn samples(&mut self, count: u32) -> io::Result<Vec<f64>> {
        let questions = self.questions.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(questions, "{count}")?;
        questions.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let samples: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        let samples = samples.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if samples.is_empty() && count > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(samples)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.questions.take());
        if let Err(error) = self.process.wait() {
            eprintln!("a helper process did not end: {error}");
        }
    }
}

/// The other end: answers each line of standard input until it ends.
///
/// # Errors
///
/// The system's, when the pipes break.
pub fn serve(mut sample: impl FnMut() -> f64) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let count: u32 = line?.trim().parse().unwrap_or(0);
        let samples: Vec<String> = (0..count).map(|_| format!("{:.0}", sample())).collect();
        let mut output = io::stdout().lock();
        writeln!(output, "{}", samples.join(" "))?;
        output.flush()?;
    }
    Ok(())
}
