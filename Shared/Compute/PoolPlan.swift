package import Runtime

/// How many threads a pool starts, and where (docs/decisions/0007-threads-and-memory-nodes.md).
package struct PoolPlan: Sendable, Hashable {
    /// Threads of one memory node.
    package struct Node: Sendable, Hashable {
        /// Threads to start; whoever calls the pool comes on top.
        package var threads: Int
        /// CPUs they are bound to; none: they run where the process may.
        package var cpus: CPUList

        package init(threads: Int, cpus: CPUList = CPUList([])) {
            self.threads = threads
            self.cpus = cpus
        }
    }

    /// At least one.
    package var nodes: [Node]
    /// Whether members wait for about 20 µs before they sleep.
    package var spins: Bool

    package init(nodes: [Node], spins: Bool = true) {
        self.nodes = nodes
        self.spins = spins
    }

    /// Members, the caller included.
    package var members: Int { nodes.reduce(1) { $0 + $1.threads } }

    /// `threads` members (0: as many as may be used) on the nodes of the usable CPUs, in proportion to these.
    ///
    /// On one node nothing is bound: the threads inherit the process's mask. On several, each is bound to all usable CPUs of
    /// its node, because memory belongs to nodes; the system chooses among a node's CPUs, so that two processes that share
    /// them do not end up on the same ones. Members that have no CPU of their own do not spin: they would take time from
    /// those that compute.
    package init(threads: Int, usable: UsableCPUs, topology: CPUTopology) {
        let members = threads > 0 ? threads : usable.count
        spins = usable.count > 1 && members <= usable.count
        let total = topology.nodes.reduce(0) { $0 + $1.count }
        var nodes: [Node] = [], given = 0, cpus = 0
        for node in topology.nodes {
            cpus += node.count
            let upToHere = (members * cpus + total - 1) / max(1, total)
            if upToHere > given { nodes.append(Node(threads: upToHere - given, cpus: node)) }
            given = upToHere
        }
        if nodes.count < 2 { nodes = [Node(threads: members)] }
        nodes[0].threads -= 1
        self.nodes = nodes
    }
}
