import java.io.File;
import java.util.List;
import org.apache.activemq.broker.BrokerPlugin;
import org.apache.activemq.broker.BrokerService;
import org.apache.activemq.security.AuthenticationUser;
import org.apache.activemq.security.SimpleAuthenticationPlugin;

/** Arguments: port, directory, and user name and password where only they may connect. */
public final class Activemq {
  public static void main(String[] arguments) throws Exception {
    BrokerService broker = new BrokerService();
    broker.setBrokerName("causeway");
    broker.setUseJmx(false);
    broker.setPersistent(true);
    broker.setDataDirectoryFile(new File(arguments[1], "data"));
    if (arguments.length == 4) {
      broker.setPlugins(new BrokerPlugin[] {new SimpleAuthenticationPlugin(
          List.of(new AuthenticationUser(arguments[2], arguments[3], "all")))});
    }
    broker.addConnector("mqtt://127.0.0.1:" + arguments[0]);
    broker.start();
    broker.waitUntilStopped();
  }
}
