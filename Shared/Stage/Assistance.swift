package import Bus
package import Failure
import Logging
import Wire

/// Help that a worker gives another with its task: what `StageHandler.assist` and `follow` are called with.
package struct StageAssistance: Sendable {
    /// Job and name of the leader's task.
    package let task: String
    /// UTF-8 JSON, of the task that a follower prepares for.
    package let parameters: String
    /// The leader and its assistants.
    package let party: AssistanceParty
    private let progress: TaskProgress

    package init(
        task: String, party: AssistanceParty, parameters: String = "", progress: TaskProgress = TaskProgress()
    ) {
        self.task = task
        self.parameters = parameters
        self.party = party
        self.progress = progress
    }

    /// Throws `cancelled` once this worker must stop helping.
    package func checkCancelled() throws(Failure) {
        if let reason = progress.cancellation {
            throw Failure("cancelled", "helping with \(task) was stopped: \(reason)")
        }
    }
}

/// The way to other workers that may help with a task.
struct AssistanceDesk: Sendable {
    let server: DataServer
    let client: ControlClient

    /// How long the broker may take to answer, and those it sends to come.
    private static let patience = Duration.seconds(5)

    /// Asks the broker for `count` idle workers and waits for those that it sends. Nil when nobody came.
    func gather(_ count: Int, for lease: Lease) async -> AssistanceParty? {
        let (secret, party) = await server.host()
        let request = AssistRequest(lease: lease, count: UInt32(clamping: count), secret: secret)
        guard count > 0,
            case .assistOffered(let offer)? = try? await client.request(.assistRequest(request), timeout: Self.patience),
            offer.count > 0
        else {
            party.leave()
            return nil
        }
        await server.gather(Int(offer.count), for: party, patience: Self.patience)
        guard !party.assistants.isEmpty else {
            party.leave("assistance_over", "nobody came in time")
            return nil
        }
        return party
    }

    /// A party for a worker of the next stage, whom the broker is asked for meanwhile: nobody waits for it.
    func expectFollower(of lease: Lease) async -> AssistanceParty {
        let (secret, party) = await server.host()
        let request = AssistRequest(lease: lease, count: 1, secret: secret, follows: true), client = client
        Task {
            if case .assistOffered(let offer)? = try? await client.request(
                .assistRequest(request), timeout: Self.patience), offer.count > 0
            {
                return
            }
            party.leave()
        }
        return party
    }
}

/// A worker's side of one order to help.
struct AssistanceRun: Sendable {
    let order: AssistOrder
    let progress: TaskProgress
    let data: DataClient
    let logger: Logger

    /// Helps until the leader ends it, is gone, or this worker must stop. Never throws: the leader does without.
    func execute(_ handler: any StageHandler) async {
        let metadata: Logger.Metadata = ["task": "\(order.lease.task)", "leader": "\(order.leader)"]
        do throws(Failure) {
            let link = try await data.join(order)
            logger.info(order.follows ? "following" : "assisting", metadata: metadata)
            let problem = await outcome(handler, link.party)
            // A leader that has ended it hears no more of us; to any other this says why.
            if let problem, problem.code != "assistance_ended" { link.party.leave(problem.code, problem.message) }
            await link.close(afterSending: problem != nil)
            let reason = problem.map { "\($0.code): \($0.message)" } ?? "done"
            logger.info("assistance ended", metadata: metadata.merging(["reason": "\(reason)"]) { first, _ in first })
        } catch {
            logger.warning("cannot assist", metadata: metadata.merging(["reason": "\(error)"]) { first, _ in first })
        }
    }

    private func outcome(_ handler: any StageHandler, _ party: AssistanceParty) async -> Failure? {
        do throws(Failure) {
            let assistance = StageAssistance(
                task: "\(order.lease.task)", party: party, parameters: order.parameters, progress: progress)
            try await order.follows ? handler.follow(assistance) : handler.assist(assistance)
            return nil
        } catch {
            return error
        }
    }
}
