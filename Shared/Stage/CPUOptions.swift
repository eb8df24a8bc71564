package import ArgumentParser
package import Failure
package import Runtime

/// Where a worker that computes may run.
package struct CPUOptions: ParsableArguments {
    @Option(help: "CPUs to run on, such as 0-7,16. Default: those this process may use.")
    package var cpus: String?

    package init() {}

    /// Binds this process to the CPUs that were given, libraries' threads included; does nothing without a list. Called
    /// before a pool of threads is made, whose size follows from it.
    ///
    /// - Returns: the list, nil without one.
    /// - Throws: `cpus_invalid`.
    @discardableResult
    package func bind() throws(Failure) -> CPUList? {
        guard let cpus else { return nil }
        let chosen = try UsableCPUs.current().chosen(cpus)
        try UsableCPUs.bindProcess(to: chosen)
        return chosen
    }
}
