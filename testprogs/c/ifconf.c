/* ifconf: the interface ioctls on the loopback interface. */
#include "common.h"
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>

static struct ifreq req(const char *name)
{
	struct ifreq r;

	memset(&r, 0, sizeof r);
	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
	return r;
}

int main(void)
{
	struct ifreq list[16], r;
	struct ifconf c = {.ifc_len = sizeof list, .ifc_req = list};

	begin();
	int s = must(socket(AF_INET, SOCK_DGRAM, 0)), t = must(socket(AF_INET6, SOCK_STREAM, 0));
	T(ioctl(s, SIOCGIFCONF, &c));
	for (int i = 0; i < c.ifc_len / (int)sizeof(struct ifreq); i++)
		if (strcmp(list[i].ifr_name, "lo") == 0)
			say("lo %s", inet_ntoa(((struct sockaddr_in *)&list[i].ifr_addr)->sin_addr));
	c.ifc_req = NULL;
	T(ioctl(s, SIOCGIFCONF, &c));
	say("room asked for: %s", c.ifc_len >= (int)sizeof(struct ifreq) ? "some" : "none");
	c.ifc_req = list;
	c.ifc_len = 1;
	T(ioctl(s, SIOCGIFCONF, &c));
	say("length %d", c.ifc_len);
	r = req("lo");
	T(ioctl(s, SIOCGIFINDEX, &r));
	say("index %d", r.ifr_ifindex);
	T(ioctl(s, SIOCGIFNAME, &r));
	say("name %s", r.ifr_name);
	r = req("lo");
	T(ioctl(s, SIOCGIFFLAGS, &r));
	say("flags: up %d loopback %d running %d", !!(r.ifr_flags & IFF_UP), !!(r.ifr_flags & IFF_LOOPBACK), !!(r.ifr_flags & IFF_RUNNING));
	r = req("lo");
	T(ioctl(s, SIOCGIFADDR, &r));
	say("address %s", inet_ntoa(((struct sockaddr_in *)&r.ifr_addr)->sin_addr));
	r = req("lo");
	T(ioctl(s, SIOCGIFNETMASK, &r));
	say("mask %s", inet_ntoa(((struct sockaddr_in *)&r.ifr_netmask)->sin_addr));
	r = req("lo");
	T(ioctl(s, SIOCGIFMTU, &r));
	say("MTU %d", r.ifr_mtu);
	r = req("lo");
	T(ioctl(s, SIOCGIFHWADDR, &r));
	say("hardware %d", r.ifr_hwaddr.sa_family);
	r = req("lo");
	T(ioctl(t, SIOCGIFINDEX, &r));
	r = req("none0");
	T(ioctl(s, SIOCGIFINDEX, &r));
	T(ioctl(s, SIOCGIFFLAGS, &r));
	T(ioctl(s, SIOCGIFADDR, &r));
	memset(&r, 0, sizeof r);
	r.ifr_ifindex = 9999;
	T(ioctl(s, SIOCGIFNAME, &r));
	r = req("lo");
	T(ioctl(s, SIOCSIFMTU, &r));
	T(ioctl(s, SIOCSIFFLAGS, &r));
	say("-- by name and index");
	say("if_nametoindex %u", if_nametoindex("lo"));
	char name[IF_NAMESIZE];
	say("if_indextoname %s", if_indextoname(1, name) ? name : "none");
	return 0;
}
