/// What can go wrong in the simulated world.
package enum Fault: Int, Sendable, CaseIterable, Hashable {
    // The network
    case drop, duplicate, delay, twoWayPartition, oneWayPartition, dataPartition, lostConnection
    // Processes
    case workerCrash, workerFreeze, workerRestart, workerDrain, brokerCrash, brokerFreeze, brokerRestart, brokerDrain
    // Crash points of the broker's turn
    case crashBeforeCommit, crashWhileCommitting, crashAfterCommit, crashBetweenSends, crashAfterSends
    // Disks and clocks
    case slowCommit, failedCommit, ghostCommit, fullDisk, compaction, tornBlob, lostBlob, evictedBlob, clockJump
    // Stages and jobs
    case stageFailure, hangingStage, poisonJob, hopelessJob
    // Clients
    case repeatedSubmit, reusedKey, cancel, cancelRace, gatewayCrash, deadRetry
    // The wire
    case damagedFrame

    package var name: String {
        switch self {
        case .drop: "message lost"
        case .duplicate: "message doubled"
        case .delay: "message delayed past others"
        case .twoWayPartition: "partition, both ways"
        case .oneWayPartition: "partition, one way"
        case .dataPartition: "partition of the data plane"
        case .lostConnection: "connection reset"
        case .workerCrash: "worker killed"
        case .workerFreeze: "worker frozen"
        case .workerRestart: "worker asked to stop"
        case .workerDrain: "worker drained"
        case .brokerCrash: "broker killed"
        case .brokerFreeze: "broker frozen"
        case .brokerRestart: "broker host lost power"
        case .brokerDrain: "broker drained for a while"
        case .crashBeforeCommit: "broker killed before a commit"
        case .crashWhileCommitting: "broker killed inside a commit"
        case .crashAfterCommit: "broker killed between commit and send"
        case .crashBetweenSends: "broker killed between two sends"
        case .crashAfterSends: "broker killed between send and removal"
        case .slowCommit: "commit longer than a lease"
        case .failedCommit: "commit refused"
        case .ghostCommit: "refused commit found after a restart"
        case .fullDisk: "disk full for a while"
        case .compaction: "ledger compacted"
        case .tornBlob: "blob damaged on disk"
        case .lostBlob: "blob gone from disk"
        case .evictedBlob: "blob evicted from memory"
        case .clockJump: "wall clock jumped a day"
        case .stageFailure: "stage failed by chance"
        case .hangingStage: "stage hung"
        case .poisonJob: "job that kills its workers"
        case .hopelessJob: "job that must fail"
        case .repeatedSubmit: "submission repeated"
        case .reusedKey: "key reused with another body"
        case .cancel: "cancel"
        case .cancelRace: "cancel near the end"
        case .gatewayCrash: "gateway killed"
        case .deadRetry: "dead job tried again"
        case .damagedFrame: "frame damaged"
        }
    }
}

/// How often each fault happened.
package struct FaultCounts: Sendable, Hashable {
    private var counts = [UInt64](repeating: 0, count: Fault.allCases.count)

    package init() {}

    package subscript(_ fault: Fault) -> UInt64 { counts[fault.rawValue] }

    mutating func note(_ fault: Fault) { counts[fault.rawValue] += 1 }

    package mutating func add(_ other: FaultCounts) {
        for index in counts.indices { counts[index] += other.counts[index] }
    }

    package var total: UInt64 { counts.reduce(0, +) }
}

/// Which faults a seed has and how often. Every seed leaves some kinds out (swarm testing: what never happens in a run
/// lets other things happen more), and one in sixteen has none: an undisturbed cluster must waste nothing.
struct FaultPlan {
    private var isEnabled: [Bool]
    let isQuiet: Bool
    /// Times in 10,000 per message.
    let drop: Int
    let duplicate: Int
    let delay: Int
    /// Times in 10,000 per turn of the broker with something to commit.
    let crashInTurn: Int
    /// Times in 10,000 per step of a stage.
    let stageFailure: Int
    let hang: Int

    init(random: inout SeededGenerator) {
        let isQuiet = random.below(16) == 0
        isEnabled = Fault.allCases.map { _ in random.below(2) == 0 && !isQuiet }
        self.isQuiet = isQuiet
        func rate(_ fault: Fault, _ highest: Int, _ enabled: [Bool], _ random: inout SeededGenerator) -> Int {
            let drawn = 1 + random.below(highest)
            return enabled[fault.rawValue] ? drawn : 0
        }
        drop = rate(.drop, 1500, isEnabled, &random)
        duplicate = rate(.duplicate, 1500, isEnabled, &random)
        delay = rate(.delay, 1000, isEnabled, &random)
        crashInTurn = rate(.crashBeforeCommit, 300, isEnabled, &random)
        stageFailure = rate(.stageFailure, 300, isEnabled, &random)
        hang = rate(.hangingStage, 60, isEnabled, &random)
    }

    subscript(_ fault: Fault) -> Bool { isEnabled[fault.rawValue] }
}

/// Rules that the simulated machine keeps and the code under test relies on. Each can be switched off to see that the
/// simulator notices (docs/reliability.md).
package struct WorldRules: Sendable, Hashable {
    /// A commit is on disk when it is reported done.
    package var commitsAreDurable = true
    /// Whoever fetches a blob compares its digest.
    package var digestsAreChecked = true
    /// A blob is flushed before it gets its name.
    package var blobsAreFlushed = true

    package init(commitsAreDurable: Bool = true, digestsAreChecked: Bool = true, blobsAreFlushed: Bool = true) {
        self.commitsAreDurable = commitsAreDurable
        self.digestsAreChecked = digestsAreChecked
        self.blobsAreFlushed = blobsAreFlushed
    }
}
