import CommandLineService
import Runtime

@main
struct ZoetropeMain {
    static func main() async {
        await Launch.run(ZoetropeCommand.self, service: "zoetrope")
    }
}
