import io.moquette.broker.Server;
import io.moquette.broker.config.MemoryConfig;
import io.moquette.broker.security.IAuthenticator;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Properties;

/** Arguments: port, directory, and user name and password where only they may connect. */
public final class Moquette {
  public static void main(String[] arguments) throws Exception {
    Properties settings = new Properties();
    settings.setProperty("host", "127.0.0.1");
    settings.setProperty("port", arguments[0]);
    settings.setProperty("data_path", arguments[1] + "/");
    settings.setProperty("persistence_enabled", "true");
    settings.setProperty("allow_anonymous", String.valueOf(arguments.length < 4));
    settings.setProperty("telemetry_enabled", "false");
    settings.setProperty("netty.mqtt.message_size", "1048576");
    IAuthenticator accounts = (client, user, password) -> arguments.length < 4
        || (arguments[2].equals(user) && password != null
            && arguments[3].equals(new String(password, StandardCharsets.UTF_8)));
    new Server().startServer(new MemoryConfig(settings), List.of(), null, accounts, null);
    Thread.currentThread().join();
  }
}
