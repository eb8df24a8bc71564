import Checkpoint
import Failure
import Runtime

/// A cluster of child processes for one command, over local sockets.
enum PrivateCluster {
    /// Starts nothing by itself: `body` gets the plan and the supervisor, and whatever it started is stopped in the end.
    ///
    /// - Parameters:
    ///   - keepsFolder: whether logs, ledger and stored tensors stay when all went well; they stay when it did not.
    ///   - configure: sets what differs from the plan's defaults; gets the cluster's own folder.
    static func with(
        _ folder: ModelFolder, keepsFolder: Bool = false, configure: (inout ClusterPlan, String) throws -> Void,
        _ body: (ClusterPlan, ClusterSupervisor) async throws -> Void
    ) async throws {
        let workspace = try Workspace.temporary()
        var plan = ClusterPlan(
            model: folder.path, runDirectory: workspace.runDirectory, dataDirectory: workspace.dataDirectory,
            gateway: ListenAddress(host: "127.0.0.1", port: try ClusterSupervisor.freePort()))
        plan.keepsEmbeddings = true
        do {
            try configure(&plan, workspace.root)
        } catch {
            workspace.remove()
            throw error
        }
        let supervisor = ClusterSupervisor(plan: plan, logFolder: workspace.logs) { Console.note($0) }
        do {
            try await Interruption.stopping(supervisor) { try await body(plan, supervisor) }
        } catch {
            await supervisor.stop()
            Console.note("logs: \(workspace.logs)")
            throw error
        }
        await supervisor.stop()
        if keepsFolder { Console.note("kept \(workspace.root)") } else { workspace.remove() }
    }
}
