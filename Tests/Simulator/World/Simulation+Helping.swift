import Wire
import Work

/// What a worker does for a task that is leased to another one: it computes rows of it, or takes its results as they come.
struct HelpRun {
    let order: AssistOrder
    var isCancelled = false
}

// Workers on one task: what the stages of those who lead, help and follow do. One world in five has them, and draws its
// chances apart, so that all other worlds are what they were before.
extension Simulation {
    static func hasHelpers(seed: UInt64) -> Bool { seed % 5 == 3 }

    /// A decode that begins may ask for idle decoders, and for a muxer that follows it.
    mutating func askForHelp(_ number: Int, _ assign: Assign) {
        guard Self.hasHelpers(seed: seed), assign.stage == "decoder" else { return }
        let secret = [UInt8](repeating: 7, count: AssistRequest.secretBytes)
        if helpRandom.below(2) == 0 {
            let count = UInt32(1 + helpRandom.below(2))
            say(.assistRequest(AssistRequest(lease: assign.lease, count: count, secret: secret)), number)
        }
        if helpRandom.below(2) == 0 {
            say(.assistRequest(AssistRequest(lease: assign.lease, count: 1, secret: secret, follows: true)), number)
        }
    }

    mutating func beginHelping(_ number: Int, _ order: AssistOrder) {
        let worker = workers[number]
        note("w\(number) \(order.follows ? "follows" : "helps with") \(order.lease.task) of \(order.leader)")
        history.scheduling.helps += 1
        worker.helps.append(HelpRun(order: order))
        schedule(.help(number, run: worker.run, order.lease), after: helpRandom.between(20...400))
    }

    /// Looks whether the leader still computes: its end of the party tells, or its silence.
    mutating func continueHelping(_ number: Int, run: Int, _ lease: Lease) {
        guard isRunning(number, run) else { return }
        let worker = workers[number]
        guard worker.frozenUntil <= now else {
            return queue.push(.help(number, run: run, lease), at: worker.frozenUntil)
        }
        guard let index = worker.helps.firstIndex(where: { $0.order.lease == lease }) else { return }
        let help = worker.helps[index]
        let isWanted = workers.contains { leader in
            leader.isAlive && leader.hello.worker == help.order.leader
                && leader.runs.contains { $0.assign.lease == lease && !$0.isCancelled }
        }
        guard isWanted, !help.isCancelled else {
            note("w\(number) is done with \(lease.task)")
            worker.helps.remove(at: index)
            return act(number, .stopped(lease))
        }
        schedule(.help(number, run: run, lease), after: helpRandom.between(20...400))
    }
}
