import Wire

// Which READY task goes to which worker.
extension BrokerState {
    /// READY tasks of one priority, as the dispatcher takes them.
    private struct Queues {
        struct Tenant {
            var name: String
            /// Lanes by number, with what is left of them.
            var lanes: [(number: Int, tasks: ArraySlice<WorkIndex.Candidate>)] = []
        }

        let lanes: [WorkIndex.Lane]
        /// By lane: whether a free worker takes its tasks and nothing holds them back.
        var isOpen: [Bool]
        var tenants: [Tenant] = []

        init(_ ready: [WorkIndex.Lane: [String: [WorkIndex.Candidate]]], isOpen: (WorkIndex.Lane) -> Bool) {
            lanes = Array(ready.keys)
            self.isOpen = lanes.map(isOpen)
            var places: [String: Int] = [:]
            for (number, lane) in lanes.enumerated() where self.isOpen[number] {
                for (tenant, tasks) in ready[lane] ?? [:] {
                    let place = places[tenant] ?? tenants.count
                    if place == tenants.count {
                        places[tenant] = place
                        tenants.append(Tenant(name: tenant))
                    }
                    tenants[place].lanes.append((number, tasks[...]))
                }
            }
        }

        /// Takes the first task of the tenant that has been given least; the oldest job decides between equals.
        mutating func next(_ share: FairShare) -> WorkIndex.Candidate? {
            var best: (tenant: Int, lane: Int, rank: (Double, UInt64, String))?
            for (place, tenant) in tenants.enumerated() {
                guard let lane = first(of: tenant), let head = tenant.lanes[lane].tasks.first else { continue }
                let rank = (share.served(tenant.name), head.ordinal, tenant.name)
                if let best, best.rank <= rank { continue }
                best = (place, lane, rank)
            }
            guard let best else { return nil }
            return tenants[best.tenant].lanes[best.lane].tasks.popFirst()
        }

        /// Leaves out the lanes that nobody takes any more.
        mutating func close(unless isOpen: (WorkIndex.Lane) -> Bool) {
            for number in lanes.indices where self.isOpen[number] { self.isOpen[number] = isOpen(lanes[number]) }
        }

        private func first(of tenant: Tenant) -> Int? {
            var best: Int?
            for (place, lane) in tenant.lanes.enumerated() where isOpen[lane.number] {
                guard let head = lane.tasks.first else { continue }
                if let best, let other = tenant.lanes[best].tasks.first, other.goesBefore(head) { continue }
                best = place
            }
            return best
        }
    }

    /// Leases READY tasks into the slots that workers have advertised, until either runs out: the highest priority first,
    /// then the tenant that has been given least, then what is pressed for time, then finishing before beginning, then
    /// age.
    mutating func dispatch(_ now: Instant) {
        guard readOnlyReason == nil, index.hasReady else { return }
        var free = freeSlots()
        guard !free.isEmpty else { return }
        var reservedStages: Set<String> = []
        for priority in index.readyPriorities where !free.isEmpty {
            var queues = Queues(index.ready(priority)) { isOpen($0, priority: priority, free: free) }
            while !free.isEmpty, let candidate = queues.next(share) {
                guard let job = records.jobs[candidate.job], job.tasks.indices.contains(candidate.position) else {
                    continue
                }
                let task = job.tasks[candidate.position]
                let id = TaskID(job: job.job, name: task.specification.name)
                guard task.state == .ready, notBefore[id, default: 0] <= now.milliseconds else { continue }
                if let session = choose(for: task, job: job, free: free) {
                    assign(id, task, of: job, to: session, now: now)
                    free[session] = task.isQuarantined ? nil : free[session].flatMap { $0 > 1 ? $0 - 1 : nil }
                } else if task.isQuarantined, reservedStages.insert(task.specification.stage).inserted,
                    let session = reservation(for: task)
                {
                    free[session] = nil
                } else {
                    continue
                }
                queues.close { isOpen($0, priority: priority, free: free) }
            }
        }
    }

    private func isOpen(_ lane: WorkIndex.Lane, priority: Int32, free: [SessionID: Int]) -> Bool {
        if let consumer = lane.consumer, isFull(consumer, priority: priority) { return false }
        return free.keys.contains { session in
            workers[session]?.hello.capabilities.contains { $0.serves(stage: lane.stage, model: lane.model) } ?? false
        }
    }

    /// Slots that certainly are free: advertised in the newest beat, less what was given since, and never more than the
    /// slots without a lease.
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
            let slots = min(
                Int(worker.freeSlots) - taken.unlisted - worker.sentAssists.count, Int(worker.hello.slots) - taken.all)
            if slots > 0 { free[session] = slots }
        }
        return free
    }

    /// Same arithmetic as the checkpoint, then whoever did not die of the task, then least busy, then whoever has the
    /// weights as the task wants them, then whoever holds an input or took it as it came, then whose turn it is.
    /// A worker that failed the task gets it again only when no other connected worker could.
    private func choose(for task: TaskRecord, job: JobRecord, free: [SessionID: Int]) -> SessionID? {
        let excluded = task.excludedWorkers
        let spares =
            excluded.isEmpty
            || workers.values.contains {
                !excluded.contains($0.hello.worker) && $0.hello.serves(task.specification)
            }
        let crashed = task.crashedWorkers
        let affinity = task.specification.affinity
        var holders = Set(task.producers.compactMap { job.task($0)?.session })
        if let follower = followers[TaskID(job: job.job, name: task.specification.name)] { holders.insert(follower) }
        var best: (session: SessionID, rank: (Int, Int, Int, Int, UInt64, String))?
        for (session, slots) in free {
            guard let worker = workers[session], worker.hello.serves(task.specification),
                !spares || !excluded.contains(worker.hello.worker),
                !task.isQuarantined || mayIsolate(task, on: session, worker, free: free)
            else { continue }
            let isStrange = task.checkpoint != nil && worker.hello.numerics != task.checkpointNumerics
            let rank = (
                (isStrange ? 2 : 0) + (crashed.contains(worker.hello.worker) ? 1 : 0), Int(worker.hello.slots) - slots,
                affinity.isEmpty || worker.readyFor.contains(affinity) ? 0 : 1, holders.contains(session) ? 0 : 1,
                worker.lastAssignment, worker.hello.worker
            )
            if let best, best.rank < rank || (best.rank == rank && inOrder(best.session, session)) { continue }
            best = (session, rank)
        }
        return best?.session
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
        followers[id] = nil
        assignments += 1
        workers[session]?.lastAssignment = assignments
        let assign = Assign(
            lease: lease, attempt: task.attempts + 1, stage: task.specification.stage, model: task.specification.model,
            parameters: task.specification.parameters, inputs: inputs,
            durableOutputs: task.specification.durableOutputs, checkpoint: task.checkpoint,
            checkpointStep: task.checkpointStep, earlierCheckpoint: task.earlierCheckpoint?.ref,
            earlierCheckpointStep: task.earlierCheckpoint?.step ?? 0,
            leaseMilliseconds: UInt32(clamping: configuration.leaseMilliseconds),
            origins: origins(of: task, in: job))
        send(.assign(assign), to: session)
    }
}

extension Capability {
    func serves(_ task: TaskSpecification) -> Bool { serves(stage: task.stage, model: task.model) }

    /// - Parameter model: empty for any.
    func serves(stage: String, model: String) -> Bool {
        self.stage == stage && (model.isEmpty || self.model == model)
    }
}

extension Hello {
    func serves(_ task: TaskSpecification) -> Bool { capabilities.contains { $0.serves(task) } }
}
