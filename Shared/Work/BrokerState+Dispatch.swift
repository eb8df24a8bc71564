import Wire

// Which READY task goes to which worker.
extension BrokerState {
    struct Candidate {
        var id: TaskID
        var priority: Int32
        var tenant: String
        /// When its job must be done, where that is at risk; `.max` otherwise.
        var pressingDeadline: UInt64
        /// Jobs under way come before jobs not begun: finishing frees memory and pleases somebody.
        var isUnderWay: Bool
        var ordinal: UInt64
        /// Place in the job; later stages first.
        var position: Int

        /// The order within one tenant.
        func goesBefore(_ other: Candidate) -> Bool {
            if priority != other.priority { return priority > other.priority }
            if pressingDeadline != other.pressingDeadline { return pressingDeadline < other.pressingDeadline }
            if isUnderWay != other.isUnderWay { return isUnderWay }
            if ordinal != other.ordinal { return ordinal < other.ordinal }
            return position > other.position
        }
    }

    /// Leases READY tasks into the slots that workers have advertised, until either runs out: the highest priority first,
    /// then the tenant that has been given least, then what is pressed for time, then finishing before beginning, then
    /// age.
    mutating func dispatch(_ now: Instant) {
        guard readOnlyReason == nil, !records.ready.isEmpty else { return }
        var free = freeSlots()
        guard !free.isEmpty else { return }
        let all = candidates(for: free.keys, now: now)
        guard !all.isEmpty else { return }
        var backlog = backlog()
        var reservedStages: Set<String> = []
        let byPriority = Dictionary(grouping: all, by: \.priority)
        for (_, candidates) in byPriority.sorted(by: { $0.key > $1.key }) {
            var queues = Dictionary(grouping: candidates, by: \.tenant)
                .mapValues { ArraySlice($0.sorted { $0.goesBefore($1) }) }
            while !free.isEmpty, let candidate = next(in: &queues) {
                guard let job = records.jobs[candidate.id.job], let task = job.task(candidate.id.name),
                    task.state == .ready, stageInTheWay(of: task, in: job, backlog) == nil
                else { continue }
                guard let session = choose(for: task, job: job, free: free) else {
                    if task.isQuarantined, reservedStages.insert(task.specification.stage).inserted,
                        let session = reservation(for: task)
                    {
                        free[session] = nil
                    }
                    continue
                }
                assign(candidate.id, task, of: job, to: session, now: now)
                if let stage = consumer(of: task.specification, in: job) { backlog.add(stage, priority: job.priority) }
                free[session] = task.isQuarantined ? nil : free[session].flatMap { $0 > 1 ? $0 - 1 : nil }
            }
        }
    }

    /// Takes the head of the queue of the tenant that has been given least; the oldest job decides between equals.
    private func next(in queues: inout [String: ArraySlice<Candidate>]) -> Candidate? {
        let heads = queues.compactMap { tenant, queue in queue.first.map { (share.served(tenant), $0.ordinal, tenant) }
        }
        guard let tenant = heads.min(by: { $0 < $1 })?.2 else { return nil }
        let candidate = queues[tenant]?.popFirst()
        if queues[tenant]?.isEmpty == true { queues[tenant] = nil }
        return candidate
    }

    /// Slots that certainly are free: advertised in the newest beat, less what was assigned since, and never more than
    /// the slots without a lease.
    func freeSlots() -> [SessionID: Int] {
        var leased: [SessionID: (all: Int, unlisted: Int)] = [:]
        for clock in leases.values {
            let isListed = workers[clock.session]?.listed.contains(clock.fence) ?? false
            leased[clock.session, default: (0, 0)].all += 1
            leased[clock.session, default: (0, 0)].unlisted += isListed ? 0 : 1
        }
        let isolated = isolatedSessions()
        var free: [SessionID: Int] = [:]
        for (session, worker) in workers
        where !isolated.contains(session) && worker.isReachable && !worker.isDraining && worker.freeSlots > 0 {
            let taken = leased[session] ?? (0, 0)
            let slots = min(Int(worker.freeSlots) - taken.unlisted, Int(worker.hello.slots) - taken.all)
            if slots > 0 { free[session] = slots }
        }
        return free
    }

    /// READY tasks that one of these workers could take now, in no order.
    func candidates(for sessions: some Sequence<SessionID>, now: Instant) -> [Candidate] {
        let capabilities = Set(sessions.flatMap { workers[$0]?.hello.capabilities ?? [] })
        var found: [Candidate] = []
        for id in records.ready {
            guard let job = records.jobs[id] else { continue }
            for position in job.tasks.indices where job.tasks[position].state == .ready {
                let specification = job.tasks[position].specification
                let taskID = TaskID(job: id, name: specification.name)
                guard notBefore[taskID, default: 0] <= now.milliseconds,
                    capabilities.contains(where: { $0.serves(specification) })
                else { continue }
                found.append(
                    Candidate(
                        id: taskID, priority: job.priority, tenant: job.key.tenant,
                        pressingDeadline: pressingDeadline(of: id), isUnderWay: job.state == .running,
                        ordinal: job.ordinal, position: position))
            }
        }
        return found
    }

    /// Same arithmetic as the checkpoint, then whoever did not die of the task, then least busy, then whoever holds an
    /// input, then whose turn it is.
    /// A worker that failed the task gets it again only when no other connected worker could.
    private func choose(for task: TaskRecord, job: JobRecord, free: [SessionID: Int]) -> SessionID? {
        let capable = workers.filter { $0.value.hello.serves(task.specification) }
        let preferred = capable.filter { !task.excludedWorkers.contains($0.value.hello.worker) }
        var eligible = (preferred.isEmpty ? capable : preferred).filter { free[$0.key] != nil }
        if task.isQuarantined { eligible = eligible.filter { mayIsolate(task, on: $0.key, $0.value, free: free) } }
        let crashed = task.crashedWorkers
        let holders = Set(task.producers.compactMap { job.task($0)?.session })
        func rank(_ session: SessionID, _ worker: Worker) -> (Int, Int, Int, Int, UInt64, String) {
            let isStrange = task.checkpoint != nil && worker.hello.numerics != task.checkpointNumerics
            let busy = Int(worker.hello.slots) - (free[session] ?? 0)
            let holdsInput = holders.contains(session)
            let hasCrashed = crashed.contains(worker.hello.worker)
            return (
                isStrange ? 1 : 0, hasCrashed ? 1 : 0, busy, holdsInput ? 0 : 1, worker.lastAssignment,
                worker.hello.worker
            )
        }
        return eligible.sorted { inOrder($0.key, $1.key) }.min { rank($0.key, $0.value) < rank($1.key, $1.value) }?.key
    }

    /// Commits fence and attempt, then sends ASSIGN.
    private mutating func assign(
        _ id: TaskID, _ task: TaskRecord, of job: JobRecord, to session: SessionID, now: Instant
    ) {
        guard let worker = workers[session] else { return }
        guard let inputs = job.inputs(of: task) else {
            let problem = "an input of task \(id.name) has no producer output"
            endJob(job.job, .failed, task: id.name, code: "output_missing", message: problem, now: now)
            return
        }
        let lease = Lease(task: id, fence: records.lastFence + 1)
        let grant = LeaseGrant(
            lease: lease, worker: worker.hello.worker, session: session, numerics: worker.hello.numerics,
            unixMilliseconds: now.unixMilliseconds)
        commit(.leaseGranted(grant), now: now)
        leases[id] = LeaseClock(
            session: session, fence: lease.fence, isQuarantined: task.isQuarantined, grantedAt: now.milliseconds,
            expiresAt: now.milliseconds + configuration.leaseMilliseconds, step: task.checkpointStep)
        let cost = expectedMilliseconds(task.specification, id) ?? Self.unknownCostMilliseconds
        leases[id]?.charged = Double(cost)
        share.charge(job.key.tenant, milliseconds: Double(cost))
        notBefore[id] = nil
        assignments += 1
        workers[session]?.lastAssignment = assignments
        let assign = Assign(
            lease: lease, attempt: task.attempts + 1, stage: task.specification.stage, model: task.specification.model,
            parameters: task.specification.parameters, inputs: inputs,
            durableOutputs: task.specification.durableOutputs, checkpoint: task.checkpoint,
            checkpointStep: task.checkpointStep, leaseMilliseconds: UInt32(clamping: configuration.leaseMilliseconds))
        send(.assign(assign), to: session)
    }
}

extension Capability {
    func serves(_ task: TaskSpecification) -> Bool {
        stage == task.stage && (task.model.isEmpty || model == task.model)
    }
}

extension Hello {
    func serves(_ task: TaskSpecification) -> Bool { capabilities.contains { $0.serves(task) } }
}
