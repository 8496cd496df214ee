import java.io.File;
import org.apache.activemq.artemis.core.config.Configuration;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.config.impl.SecurityConfiguration;
import org.apache.activemq.artemis.core.security.Role;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;
import org.apache.activemq.artemis.spi.core.security.ActiveMQJAASSecurityManager;
import org.apache.activemq.artemis.spi.core.security.jaas.InVMLoginModule;

/** Arguments: port, directory, and user name and password where only they may connect. */
public final class Artemis {
  public static void main(String[] arguments) throws Exception {
    Configuration configuration = new ConfigurationImpl();
    configuration.setBrokerInstance(new File(arguments[1]));
    configuration.setBindingsDirectory(arguments[1] + "/bindings");
    configuration.setJournalDirectory(arguments[1] + "/journal");
    configuration.setLargeMessagesDirectory(arguments[1] + "/large");
    configuration.setPagingDirectory(arguments[1] + "/paging");
    configuration.setJournalType(org.apache.activemq.artemis.core.server.JournalType.NIO);
    configuration.setJournalFileSize(4 * 1024 * 1024);
    configuration.setMaxDiskUsage(100);
    configuration.addAcceptorConfiguration("mqtt", "tcp://127.0.0.1:" + arguments[0] + "?protocols=MQTT");
    configuration.setSecurityEnabled(arguments.length == 4);
    EmbeddedActiveMQ broker = new EmbeddedActiveMQ().setConfiguration(configuration);
    if (arguments.length == 4) {
      SecurityConfiguration accounts = new SecurityConfiguration();
      accounts.addUser(arguments[2], arguments[3]);
      accounts.addRole(arguments[2], "all");
      configuration.putSecurityRoles("#", java.util.Set.of(
          new Role("all", true, true, true, true, true, true, true, true, true, true, true, true)));
      broker.setSecurityManager(new ActiveMQJAASSecurityManager(InVMLoginModule.class.getName(), accounts));
    }
    broker.start();
    Thread.currentThread().join();
  }
}
