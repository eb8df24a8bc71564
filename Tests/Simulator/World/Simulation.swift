import Failure
package import Wire
package import Work

/// A whole small cluster in one thread under a seeded scheduler: the broker's and the workers' real state machines over a
/// simulated network, disk, store and clock.
///
/// For the first `faultMilliseconds` things go wrong as the seed's plan says; then the faults stop, and all that was
/// accepted must end. The same seed is the same run to the last message, on every machine.
///
/// ```swift
/// var simulation = Simulation(seed: 4711)
/// simulation.run()
/// for violation in simulation.violations { print(violation) }
/// ```
package struct Simulation {
    static let faultMilliseconds: UInt64 = 30_000
    static let endMilliseconds: UInt64 = 120_000
    static let beatMilliseconds: UInt64 = 500
    static let leaseMilliseconds: UInt64 = 3000

    enum Action {
        case toBroker(Envelope)
        /// Came to the host of a frozen broker.
        case waitingAtBroker(Envelope)
        case toWorker(Int, run: Int, Envelope)
        case toClient(Int, run: Int, Envelope)
        case unreachable(SessionID, epoch: UInt64)
        case brokerTick(epoch: UInt64)
        case commitDone(epoch: UInt64)
        case startBroker
        case workerTick(Int)
        case connection(Int, run: Int, isUp: Bool)
        case stage(Int, run: Int, fence: UInt64)
        case help(Int, run: Int, Lease)
        case checkpoint(Int, run: Int, Lease, step: UInt32)
        case startWorker(Int)
        case killWorker(Int, run: Int)
        case clientTurn
        case fault(Fault)
        case freeDisk
    }

    package let seed: UInt64
    let rules: WorldRules
    var random: SeededGenerator
    /// For `Simulation+Helping` alone.
    var helpRandom: SeededGenerator
    let plan: FaultPlan
    var now: UInt64 = 0
    var queue = EventQueue<Action>()
    var statistics = FaultCounts()
    var history = History(leaseMilliseconds: Simulation.leaseMilliseconds)
    var events = 0

    var broker: BrokerProcess?
    var epoch: UInt64 = 0
    var brokerBoot: UInt64 = 0
    var wallOffset: Int64 = 0
    let names = JobNames()
    var ledger = SimulatedLedger()
    var store = SimulatedStore()
    /// Contents that a fault has damaged, lost or evicted: nobody is to blame when they are missed.
    var harmed: Set<Content> = []
    let shape: Shape
    let usesCodec: Bool

    var workers: [WorkerProcess] = []
    var links: [Link] = []
    var clients: [ClientProcess] = []
    var plans: [JobPlan] = []
    /// When a drained broker is told to go on; repeated until it answers.
    var resumesAt: UInt64?

    package var isTracing = false
    package private(set) var trace: [String] = []

    /// - Parameter isTracing: keep a line for everything that happens.
    package init(seed: UInt64, rules: WorldRules = WorldRules(), isTracing: Bool = false) {
        self.seed = seed
        self.rules = rules
        self.isTracing = isTracing
        helpRandom = SeededGenerator(seed: ~seed)
        var random = SeededGenerator(seed: seed)
        plan = FaultPlan(random: &random)
        shape = Shape(isQuiet: plan.isQuiet, random: &random)
        usesCodec = random.below(32) == 0
        self.random = random
        brokerBoot = self.random.below(1_000_000 as UInt64)
        history.limits = (shape.tenantJobLimit, shape.jobLimit)
        history.judgesFairness = plan.isQuiet
        makePlans()
        makeClients()
        startBroker()
        makeWorkers()
        schedule(.clientTurn, after: 10)
        scheduleFaults()
    }

    /// What went wrong; empty is good.
    package var violations: [Violation] { history.violations }
    package var faults: FaultCounts { statistics }
    /// Events handled.
    package var eventCount: Int { events }
    package var simulatedMilliseconds: UInt64 { now }
    package var grants: Int { history.grants }
    package var losses: Int { history.losses }
    package var scheduling: SchedulingCounts { history.scheduling }
    package var ends: [JobState] { history.endStates }
    package var isQuiet: Bool { plan.isQuiet }
    /// What a restarted broker would find: two runs of a seed are the same when these are.
    package var journal: [LedgerEntry] { ledger.journal }

    var isFaulty: Bool { now < Self.faultMilliseconds }

    /// Runs to the end of all jobs, to the first violation, or out of time.
    package mutating func run() {
        while let (time, action) = queue.pop(), time < Self.endMilliseconds {
            now = time
            history.now = time
            events += 1
            perform(action)
            if !history.violations.isEmpty { return }
            if !isFaulty, history.unfinished == 0, isEverybodyContent { break }
        }
        history.now = now
        checkEnd()
    }

    // MARK: The scheduler

    mutating func schedule(_ action: Action, after delay: UInt64) { queue.push(action, at: now + delay) }

    func isHappening(_ fault: Fault) -> Bool { isFaulty && plan[fault] }

    mutating func note(_ text: @autoclosure () -> String) {
        if isTracing { trace.append("\(now)\t\(text())") }
    }

    mutating func count(_ fault: Fault) {
        statistics.note(fault)
        note("*** \(fault.name)")
    }

    private mutating func perform(_ action: Action) {
        switch action {
        case .toBroker(let envelope): arrive(envelope, isNew: true)
        case .waitingAtBroker(let envelope): arrive(envelope, isNew: false)
        case .toWorker(let number, let run, let envelope): arrive(envelope, at: number, run: run)
        case .toClient(let number, let run, let envelope):
            if clients[number].run == run { hear(envelope, client: number) }
        case .unreachable(let session, let epoch):
            if broker?.epoch == epoch { enqueue(.unreachable(session)) }
        case .brokerTick(let epoch):
            guard let broker, broker.epoch == epoch else { return }
            guard broker.frozenUntil <= now else { return queue.push(action, at: broker.frozenUntil) }
            enqueue(.tick)
            schedule(action, after: 200)
        case .commitDone(let epoch):
            guard let broker, broker.epoch == epoch else { return }
            guard broker.frozenUntil <= now else { return queue.push(action, at: broker.frozenUntil) }
            finishCommit(of: broker)
        case .startBroker: startBroker()
        case .workerTick(let number): tickWorker(number)
        case .connection(let number, let run, let isUp):
            // A connection lost with a broker that is back already comes up again with the new one.
            guard isRunning(number, run), isUp || broker == nil else { return }
            connect(number, isUp)
        case .stage(let number, let run, let fence): advance(number, run: run, fence: fence)
        case .help(let number, let run, let lease): continueHelping(number, run: run, lease)
        case .checkpoint(let number, let run, let lease, let step): storeCheckpoint(number, run: run, lease, step: step)
        case .startWorker(let number): startWorker(number)
        case .killWorker(let number, let run):
            if isRunning(number, run) { killWorker(number) }
        case .clientTurn:
            clientTurn()
            schedule(.clientTurn, after: 700)
        case .fault(let fault): if isFaulty { strike(fault) }
        case .freeDisk:
            ledger.isFull = false
            note("the disk has room again")
        }
    }

    /// Whether nobody waits for anything.
    private var isEverybodyContent: Bool {
        broker.map { $0.turn == nil && $0.inbox.isEmpty } == true && clients.allSatisfy(\.isContent)
    }
}
