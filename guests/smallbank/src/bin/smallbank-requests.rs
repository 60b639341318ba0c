//! Writes SmallBank requests as lines for `host run --requests`.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::str::FromStr;

use smallbank::mix::{Access, Mix};

const HELP: &str = "\
Writes SmallBank requests as JSON lines, the first of which loads the customers.

Usage: smallbank-requests [OPTIONS]

Options:
  --customers N       customers of the bank [default: 10000]
  --count N           requests after the first [default: 100000]
  --mix MIX           uniform or hot-spot [default: uniform]
  --hot-customers N   customers in the hot spot [default: 100]
  --hot-percent N     their share of the accesses [default: 90]
  --seed N            the same seed writes the same lines [default: 1]
  --chaos-every N     after each N requests, one to `chaos` that makes it die [default: 0, never]
  --help              this text
";

/// The ways that the guest `chaos` knows to die.
const WAYS: [&str; 12] = [
    "unreachable",
    "out_of_bounds",
    "divide_by_zero",
    "stack_overflow",
    "spin",
    "allocate",
    "grow",
    "panic",
    "print_then_panic",
    "half_moved",
    "leak_handle",
    "hostcall_storm",
];

const EXIT_WRONG_USAGE: u8 = 2;

struct Options {
    customers: u64,
    count: usize,
    hot_spot: bool,
    hot_customers: u64,
    hot_percent: u64,
    seed: u64,
    chaos_every: usize,
}

impl Options {
    const DEFAULT: Self = Self {
        customers: 10_000,
        count: 100_000,
        hot_spot: false,
        hot_customers: 100,
        hot_percent: 90,
        seed: 1,
        chaos_every: 0,
    };

    /// Reads the command line; `None` asks for help.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self::DEFAULT;
        while let Some(word) = words.next() {
            if word == "--help" || word == "-h" {
                return Ok(None);
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, words.next()),
            };
            let value = value.ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--customers" => options.customers = number(&name, &value?)?,
                "--count" => options.count = number(&name, &value?)?,
                "--hot-customers" => options.hot_customers = number(&name, &value?)?,
                "--hot-percent" => options.hot_percent = number(&name, &value?)?,
                "--seed" => options.seed = number(&name, &value?)?,
                "--chaos-every" => options.chaos_every = number(&name, &value?)?,
                "--mix" => {
                    options.hot_spot = match value?.as_str() {
                        "uniform" => false,
                        "hot-spot" => true,
                        other => return Err(format!("--mix is uniform or hot-spot, not {other}")),
                    }
                }
                _ => return Err(format!("there is no option {name}")),
            }
        }
        options.check()
    }

    fn check(self) -> Result<Option<Self>, String> {
        if self.customers < 2 {
            return Err("--customers: payments need two at least".to_owned());
        }
        if self.hot_spot && !(2..=self.customers).contains(&self.hot_customers) {
            return Err("--hot-customers: two at least, and no more than --customers".to_owned());
        }
        if self.hot_percent > 100 {
            return Err("--hot-percent: at most 100".to_owned());
        }
        Ok(Some(self))
    }

    fn mix(&self) -> Mix {
        let hot_spot = Access::HotSpot { customers: self.hot_customers, percent: self.hot_percent };
        let access = if self.hot_spot { hot_spot } else { Access::Uniform };
        Mix::new(self.customers, access, self.seed)
    }
}

fn number<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{name} {value}: {error}"))
}

fn write_requests(options: &Options, output: &mut impl Write) -> io::Result<()> {
    let mix = options.mix();
    writeln!(output, "{}", mix.load())?;
    let mut ways = WAYS.iter().cycle();
    for (place, request) in (1..=options.count).zip(mix) {
        writeln!(output, "{request}")?;
        if place.checked_rem(options.chaos_every) == Some(0)
            && let Some(how) = ways.next()
        {
            writeln!(output, r#"{{"daemon":"chaos","contract":"die","args":{{"how":"{how}"}}}}"#)?;
        }
    }
    output.flush()
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("error: {message}\n\nSee `smallbank-requests --help`.");
            return ExitCode::from(EXIT_WRONG_USAGE);
        }
    };
    match write_requests(&options, &mut BufWriter::new(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has had enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Option<Options>, String> {
        Options::parse(words.iter().map(|&word| word.to_owned()))
    }

    fn lines(words: &[&str]) -> Vec<String> {
        let mut output = Vec::new();
        write_requests(&parse(words).unwrap().unwrap(), &mut output).unwrap();
        String::from_utf8(output).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_first_line_loads() {
        let lines = lines(&["--customers", "5", "--count=3"]);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], r#"{"daemon":"smallbank","contract":"load","args":{"customers":5}}"#);
    }

    #[test]
    fn chaos_comes_in_between() {
        let lines = lines(&["--count", "24", "--chaos-every", "2"]);
        assert_eq!(lines.len(), 1 + 24 + 12);
        assert_eq!(lines[3], r#"{"daemon":"chaos","contract":"die","args":{"how":"unreachable"}}"#);
        assert!(lines[36].contains("hostcall_storm"), "{}", lines[36]);
    }

    #[test]
    fn wrong_usage_is_explained() {
        let refuse = |words: &[&str]| parse(words).map(|_| ()).unwrap_err();
        assert_eq!(refuse(&["--seed"]), "--seed needs a value");
        assert_eq!(refuse(&["--bank", "x"]), "there is no option --bank");
        assert!(refuse(&["--count", "many"]).starts_with("--count many: "));
        assert!(refuse(&["--mix", "x"]).contains("uniform or hot-spot"));
        assert!(refuse(&["--customers", "50", "--mix", "hot-spot"]).contains("--hot-customers"));
        assert!(parse(&["--help"]).unwrap().is_none());
    }
}
