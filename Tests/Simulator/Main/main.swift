import Dispatch
import Foundation
import Simulator
import Synchronization

// zoetrope-simulator --seeds N [--first-seed N] [--jobs N] [--trace] [--without RULE]… [--stop-after N]
//
// Runs that many simulated worlds, one per seed, and reports every broken invariant with its seed. `--trace` prints all
// that happens. `--without commit-durability|digest-check|blob-flush` switches off a rule of the simulated machine to
// see that the invariants notice. Status 1: an invariant was broken; 2: wrong arguments.

struct Options {
    var seeds: UInt64 = 1000
    var first: UInt64 = 1
    var jobs = max(1, ProcessInfo.processInfo.activeProcessorCount)
    var isTracing = false
    var stopAfter = 20
    var rules = WorldRules()

    init?(_ arguments: [String]) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            switch argument {
            case "--trace": isTracing = true
            case "--seeds":
                guard let value = rest.popFirst().flatMap(UInt64.init), value > 0 else { return nil }; seeds = value
            case "--first-seed":
                guard let value = rest.popFirst().flatMap(UInt64.init) else { return nil }; first = value
            case "--jobs":
                guard let value = rest.popFirst().flatMap(Int.init), value > 0 else { return nil }; jobs = value
            case "--stop-after":
                guard let value = rest.popFirst().flatMap(Int.init), value > 0 else { return nil }
                stopAfter = value
            case "--without":
                switch rest.popFirst() {
                case "commit-durability": rules.commitsAreDurable = false
                case "digest-check": rules.digestsAreChecked = false
                case "blob-flush": rules.blobsAreFlushed = false
                default: return nil
                }
            default: return nil
            }
        }
    }
}

/// At once, so that a seed is known while others still run.
func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

func trace(_ options: Options) -> Int32 {
    var status: Int32 = 0
    for seed in options.first..<(options.first + options.seeds) {
        var simulation = Simulation(seed: seed, rules: options.rules, isTracing: true)
        simulation.run()
        for line in simulation.trace { say(line) }
        for violation in simulation.violations {
            say("seed \(seed): \(violation)")
            status = 1
        }
    }
    return status
}

func duration(_ seconds: Double) -> String {
    seconds < 120 ? "\(Int(seconds)) s" : seconds < 7200 ? "\(Int(seconds / 60)) min" : "\(Int(seconds / 3600)) h"
}

func run(_ options: Options) -> Int32 {
    let total = Mutex(CampaignResult())
    let next = Atomic<UInt64>(options.first)
    let end = options.first + options.seeds
    let start = ContinuousClock.now
    let lastReport = Mutex(start)
    DispatchQueue.concurrentPerform(iterations: options.jobs) { _ in
        while true {
            let (from, _) = next.add(50, ordering: .relaxed)
            guard from < end else { return }
            var part = CampaignResult()
            for seed in from..<min(from + 50, end) { part.run(seed, rules: options.rules) }
            let (done, broken) = total.withLock { result in
                for failure in part.failures { say("seed \(failure.seed): \(failure.violation)") }
                result.add(part)
                return (result.seeds, result.failures.count)
            }
            if broken >= options.stopAfter { next.store(end, ordering: .relaxed) }
            lastReport.withLock { last in
                guard last.duration(to: .now) > .seconds(5) else { return }
                last = .now
                let elapsed = start.duration(to: .now) / .seconds(1)
                let left = elapsed / Double(done) * Double(options.seeds - done)
                complain(
                    "\(done) of \(options.seeds) seeds, \(Int(Double(done) / elapsed))/s, \(duration(left)) left, \(broken) broken"
                )
            }
        }
    }
    let result = total.withLock { $0 }
    summarise(result, elapsed: start.duration(to: .now) / .seconds(1))
    return result.failures.isEmpty ? 0 : 1
}

func summarise(_ result: CampaignResult, elapsed: Double) {
    let hours = Double(result.simulatedMilliseconds) / 3_600_000
    say(
        "\(result.seeds) seeds in \(duration(elapsed)), \(Int(Double(result.seeds) / elapsed)) a second: \(result.events) events, \(Int(hours)) simulated hours"
    )
    say(
        "\(result.jobs) jobs: \(result.done) done, \(result.failed) failed, \(result.dead) dead, \(result.cancelled) cancelled; \(result.grants) leases, \(result.losses) outputs made again"
    )
    let scheduling = result.scheduling
    say(
        "\(scheduling.precedences) slots given by priority, \(scheduling.shares) by share; \(scheduling.preemptions) tasks asked to make room, \(scheduling.quarantines) run alone; \(scheduling.retries) dead jobs retried, \(scheduling.deadlines) ended at their deadline, \(scheduling.refusals) submissions refused, \(scheduling.helps) tasks helped with or followed"
    )
    for fault in Fault.allCases { say("\(String(result.faults[fault]).leftPadded(12))  \(fault.name)") }
    var kinds: [Invariant: (count: Int, first: UInt64)] = [:]
    for failure in result.failures {
        let known = kinds[failure.violation.invariant]
        kinds[failure.violation.invariant] = ((known?.count ?? 0) + 1, min(known?.first ?? .max, failure.seed))
    }
    for (invariant, found) in kinds.sorted(by: { $0.value.count > $1.value.count }) {
        say("broken: \(invariant.rawValue), \(found.count) seeds, the first \(found.first)")
    }
    say("\(result.failures.count) violations")
}

extension String {
    func leftPadded(_ width: Int) -> String { String(repeating: " ", count: max(0, width - count)) + self }
}

guard let options = Options(Array(CommandLine.arguments.dropFirst())) else {
    complain(
        "usage: zoetrope-simulator [--seeds N] [--first-seed N] [--jobs N] [--trace] [--without commit-durability|digest-check|blob-flush] [--stop-after N]"
    )
    exit(2)
}
exit(options.isTracing ? trace(options) : run(options))
