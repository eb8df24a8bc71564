package import Logging
package import ServiceLifecycle
import UnixSignals

/// Runs a process's long-lived services until one ends, fails, or SIGTERM or SIGINT asks for a graceful stop.
package enum Lifecycle {
    package static func run(_ services: [any Service], logger: Logger) async throws {
        let configurations = services.map { service in
            ServiceGroupConfiguration.ServiceConfiguration(
                service: service, successTerminationBehavior: .gracefullyShutdownGroup,
                failureTerminationBehavior: .gracefullyShutdownGroup)
        }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: configurations, gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        try await group.run()
    }
}
